// The golden values are those of Hugging Face's tokenizers library: tests/reference/wordpiece.py
// wrote tests/zoo/data/wordpiece.json, added_tokens.py the file of that name, and the former writes the folder that DIFFMASK_WORDPIECE names.
#include "diffmask/zoo/data/wordpiece.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "diffmask/core/file.hpp"
#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

using nlohmann::json;
using Ids = std::vector<int64_t>;
using Tokens = std::vector<std::string>;

const Tokens kVocabulary = {"[PAD]", "[UNK]",  "[CLS]", "[SEP]", "[MASK]", "the", "un",
                            "##aff", "##able", "fine",  "film",  ",",      "caf", "##e"};

std::string bytes_of(const std::string& hex) {
  std::string result;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    result += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return result;
}

WordPieceOptions options_of(const json& setting) {
  WordPieceOptions options;
  options.lowercase = setting["lowercase"];
  if (!setting["strip_accents"].is_null()) options.strip_accents = setting["strip_accents"];
  options.chinese_characters = setting["chinese_characters"];
  options.longest = setting["longest"];
  for (const json& token : setting.value("added", json::array())) {
    options.added.push_back({.content = token["content"],
                             .special = token["special"],
                             .normalized = token["normalized"],
                             .single_word = token["single_word"],
                             .lstrip = token["lstrip"],
                             .rstrip = token["rstrip"]});
  }
  return options;
}

Encoding encode(const WordPiece& tokenizer, const json& one) {
  if (one.contains("listed")) return tokenizer.encode_words(one["listed"]);
  const std::string text =
      one.contains("hex") ? bytes_of(one["hex"]) : one["text"].get<std::string>();
  if (!one.contains("second")) return tokenizer.encode(text);
  return tokenizer.encode(text, one["second"].get<std::string>());
}

// Compares every case of a file; says what differs in the first few that do.
void expect_same_as(const std::string& path) {
  const json file = json::parse(read_file(path));
  for (const json& setting : file["settings"]) {
    const WordPiece tokenizer(file["vocabulary"], options_of(setting));
    int64_t cases = 0, tokens = 0, mismatches = 0;
    std::chrono::duration<double> time(0);
    for (const json& one : setting["cases"]) {
      const auto start = std::chrono::steady_clock::now();
      const Encoding encoding = encode(tokenizer, one);
      time += std::chrono::steady_clock::now() - start;
      ++cases;
      tokens += encoding.size();
      Ids begins, ends;
      for (const ByteSpan& span : encoding.bytes) {
        begins.push_back(span.begin);
        ends.push_back(span.end);
      }
      const bool is_same =
          encoding.ids == one["ids"].get<Ids>() && encoding.words == one["words"].get<Ids>() &&
          begins == one["begins"].get<Ids>() && ends == one["ends"].get<Ids>() &&
          encoding.invalid == one.value("invalid", 0) && encoding.cut == one.value("cut", 0);
      if (is_same || ++mismatches > 5) continue;
      const json got = {
          {"ids", encoding.ids}, {"words", encoding.words},     {"begins", begins},
          {"ends", ends},        {"invalid", encoding.invalid}, {"cut", encoding.cut}};
      ADD_FAILURE() << "expected " << one.dump().substr(0, 3000) << "\n     got "
                    << got.dump().substr(0, 3000);
    }
    EXPECT_EQ(mismatches, 0) << "of " << cases;
    if (cases > 1000) {
      fmt::print("{} texts, {} tokens, {} mismatches, {:.2f} s\n", cases, tokens, mismatches,
                 time.count());
    }
  }
}

TEST(WordPieceTest, AgreesWithTheReferenceOnHardTexts) {
  const char* source = std::getenv("DIFFMASK_SOURCE");
  if (!source) GTEST_SKIP() << "DIFFMASK_SOURCE is not set: run this test by ctest";
  expect_same_as(std::string(source) + "/tests/zoo/data/wordpiece.json");
}

TEST(WordPieceTest, FindsAddedTokensAsTheReferenceDoes) {
  const char* source = std::getenv("DIFFMASK_SOURCE");
  if (!source) GTEST_SKIP() << "DIFFMASK_SOURCE is not set: run this test by ctest";
  expect_same_as(std::string(source) + "/tests/zoo/data/added_tokens.json");
}

TEST(WordPieceTest, ReadsAddedTokensFromTheFoldersOfEveryVersion) {
  const char* source = std::getenv("DIFFMASK_SOURCE");
  if (!source) GTEST_SKIP() << "DIFFMASK_SOURCE is not set: run this test by ctest";
  const json file =
      json::parse(read_file(std::string(source) + "/tests/zoo/data/added_tokens.json"));
  for (const json& made : file["folders"]) {
    const TemporaryFolder folder;
    for (const auto& item : made["files"].items()) {
      const json& contents = item.value();
      write_file(folder / item.key(),
                 contents.is_string() ? contents.get<std::string>() : contents.dump());
    }
    const WordPiece tokenizer = WordPiece::load(folder.path());
    EXPECT_EQ(tokenizer.size(), made["size"]) << made["what"];
    for (const json& one : made["cases"]) {
      EXPECT_EQ(tokenizer.encode(one["text"].get<std::string>()).ids, one["ids"].get<Ids>())
          << made["what"] << ": " << one["text"];
    }
  }
}

TEST(WordPieceTest, NumbersAddedTokensOnFromTheVocabulary) {
  const auto with = [](std::vector<AddedToken> added) {
    return WordPiece(kVocabulary, {.added = std::move(added)});
  };
  const WordPiece tokenizer =
      with({{.content = "film", .id = 10}, {.content = "<a>", .id = 14}, {.content = "<b>"}});
  EXPECT_EQ(tokenizer.size(), 16);
  EXPECT_EQ(tokenizer.id("<b>"), 15);
  EXPECT_EQ(tokenizer.token(15), "<b>");
  EXPECT_EQ(tokenizer.encode("the<B>film").ids, (Ids{2, 5, 15, 10, 3}));
  EXPECT_EQ(tokenizer.encode("the<B>film").bytes[2], (ByteSpan{3, 6}));
  expect_refused<FileError>({
      {"a gap", [&] { with({{.content = "<a>", .id = 15}}); },
       "the added token '<a>' has to have the id 14, the next after the vocabulary, but got 15"},
      {"another's id", [&] { with({{.content = "film", .id = 14}}); },
       "the added token 'film' has to have the id 10, but got 14"},
      {"nothing", [&] { with({{.content = ""}}); }, "the added token '' has to hold a character"},
      {"nothing left", [&] { with({{.content = "\u00ad"}}); }, "has to hold a character"},
  });
}

TEST(WordPieceTest, AgreesWithTheReferenceOnCorpora) {
  const char* folder = std::getenv("DIFFMASK_WORDPIECE");
  if (!folder) GTEST_SKIP() << "DIFFMASK_WORDPIECE is not set (see tests/reference/wordpiece.py)";
  expect_same_as(std::string(folder) + "/wordpiece.json");
}

TEST(WordPieceTest, TokensKnowWhereTheyStand) {
  const WordPiece tokenizer(kVocabulary, {});
  const std::string text = "Unaffable caf\u00C9, huh";
  const Encoding encoding = tokenizer.encode(text);
  EXPECT_EQ(encoding.ids, (Ids{2, 6, 7, 8, 12, 13, 11, 1, 3}));
  EXPECT_EQ(encoding.types, Ids(9, 0));
  EXPECT_EQ(encoding.words, (Ids{-1, 0, 0, 0, 1, 1, 2, 3, -1}));
  Tokens texts;
  for (const auto& [begin, end] : encoding.bytes) texts.push_back(text.substr(begin, end - begin));
  EXPECT_EQ(texts, (Tokens{"", "Un", "aff", "able", "caf", "\u00C9", ",", "huh", ""}));
}

TEST(WordPieceTest, MarksThatStayKeepTheirPlace) {
  // U+302E is no accent, and stands before U+0301 in canonical order.
  const WordPiece tokenizer(kVocabulary, {});
  EXPECT_EQ(tokenizer.encode("a\u0301\u302E.").bytes[1], (ByteSpan{0, 6}));
  EXPECT_EQ(tokenizer.encode("a\u302E\u0301.").bytes[1], (ByteSpan{0, 4}));
}

TEST(WordPieceTest, FramesPairs) {
  const Encoding encoding = WordPiece(kVocabulary, {}).encode("the film", "fine");
  EXPECT_EQ(encoding.ids, (Ids{2, 5, 10, 3, 9, 3}));
  EXPECT_EQ(encoding.types, (Ids{0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(encoding.words, (Ids{-1, 0, 1, -1, 0, -1}));
  EXPECT_EQ(encoding.bytes[4], (ByteSpan{0, 4}));
}

TEST(WordPieceTest, CutsOrRefusesLongTexts) {
  WordPieceOptions options{.longest = 6};
  const WordPiece cuts(kVocabulary, options);
  EXPECT_EQ(cuts.encode("the film the film").cut, 0);
  const Encoding cut = cuts.encode("the fine film unaffable");
  EXPECT_EQ(cut.ids, (Ids{2, 5, 9, 10, 6, 3}));
  EXPECT_EQ(cut.cut, 2);
  const Encoding pair = cuts.encode("the film", "fine film");
  EXPECT_EQ(pair.ids, (Ids{2, 5, 10, 3, 9, 3}));
  EXPECT_EQ(pair.cut, 1);
  EXPECT_EQ(cuts.encode_words({"the", "film", "unaffable"}).cut, 1);
  options.overflow = WordPieceOptions::Overflow::error;
  const WordPiece refuses(kVocabulary, options);
  EXPECT_EQ(refuses.encode("the film the film").cut, 0);
  expect_refused({
      {"text", [&] { refuses.encode("the fine film unaffable"); },
       "text has to be at most 4 tokens long, beside 2 special ones, but got 6"},
      {"pair", [&] { refuses.encode("the film", "fine film"); },
       "text has to be at most 3 tokens long, beside 3 special ones, but got 4"},
      {"words",
       [&] {
         refuses.encode_words({"the", "film", "unaffable"});
       },
       "but got 5"},
      {"first", [&] { cuts.encode("the film unaffable", "fine"); },
       "first has to be fewer than 3 tokens long, but got 5"},
      {"room for none", [&] { cuts.encode("the fine film", "fine"); }, "but got 3"},
      {"longest 2", [] { WordPiece(kVocabulary, {.longest = 2}); },
       "longest has to be >= 3, but got 2"},
  });
}

TEST(WordPieceTest, TakesLongTextsInLinearTime) {
  WordPieceOptions options{.strip_accents = false, .longest = 1 << 24};
  const WordPiece tokenizer(kVocabulary, options);
  std::string dotted, marks;
  for (int i = 0; i < 200000; ++i) {
    dotted += "\u0130";
    marks += "\u0301";
  }
  EXPECT_EQ(tokenizer.encode(std::string(200000, 'a')).ids, (Ids{2, 1, 3}));
  EXPECT_EQ(tokenizer.encode(dotted).ids, (Ids{2, 1, 3}));
  EXPECT_EQ(tokenizer.encode(std::string(200000, '[')).size(), 200002);
  EXPECT_EQ(WordPiece(kVocabulary, {}).encode(marks).ids, (Ids{2, 3}));
}

TEST(WordPieceTest, NumbersTokens) {
  const WordPiece tokenizer(kVocabulary, {});
  for (int64_t id = 0; id < tokenizer.size(); ++id)
    EXPECT_EQ(tokenizer.id(tokenizer.token(id)), id);
  EXPECT_EQ(tokenizer.size(), 14);
  EXPECT_EQ(tokenizer.id("aff"), tokenizer.unknown());
  EXPECT_EQ(tokenizer.padding(), 0);
  EXPECT_EQ(tokenizer.unknown(), 1);
  EXPECT_EQ(tokenizer.classification(), 2);
  EXPECT_EQ(tokenizer.separator(), 3);
  EXPECT_EQ(tokenizer.mask(), 4);
  expect_refused({
      {"-1", [&] { tokenizer.token(-1); }, "id has to be in 0..13, but got -1"},
      {"14", [&] { tokenizer.token(14); }, "id has to be in 0..13, but got 14"},
  });
}

class WordPieceFolderTest : public testing::Test {
 protected:
  void write_vocabulary(const Tokens& tokens) const {
    std::string text;
    for (const std::string& token : tokens) text += token + "\n";
    write_file(folder_ / "vocab.txt", text);
  }
  void write(const std::string& name, const json& value) const {
    write_file(folder_ / name, value.dump());
  }

  static json tokenizer() {
    json vocabulary, added = json::array();
    for (size_t i = 0; i < kVocabulary.size(); ++i) vocabulary[kVocabulary[i]] = i;
    for (size_t i = 0; i < 5; ++i) {
      added.push_back({{"id", i}, {"content", kVocabulary[i]}, {"normalized", false}});
    }
    return {{"added_tokens", added},
            {"normalizer",
             {{"type", "BertNormalizer"},
              {"clean_text", true},
              {"handle_chinese_chars", false},
              {"strip_accents", true},
              {"lowercase", false}}},
            {"model", {{"type", "WordPiece"}, {"vocab", vocabulary}}}};
  }

  // The tokenizer.json of above with another value at a place in it.
  static json tokenizer(const std::string& place, const json& value) {
    json result = tokenizer();
    result[json::json_pointer(place)] = value;
    return result;
  }

  const TemporaryFolder folder_;
};

TEST_F(WordPieceFolderTest, LoadsAVocabulary) {
  write_vocabulary(kVocabulary);
  for (const std::string& path : {folder_.path(), folder_ / "vocab.txt"}) {
    const WordPiece tokenizer = WordPiece::load(path);
    EXPECT_EQ(tokenizer.size(), 14);
    EXPECT_TRUE(tokenizer.options().lowercase);
    EXPECT_EQ(tokenizer.encode("FINE").ids, (Ids{2, 9, 3}));
  }
  EXPECT_EQ(
      WordPiece::load(folder_.path(), WordPieceOptions{.lowercase = false}).encode("FINE").ids,
      (Ids{2, 1, 3}));
}

TEST_F(WordPieceFolderTest, ReadsTheFilesBeside) {
  write_vocabulary(kVocabulary);
  write("tokenizer.json", tokenizer());
  WordPieceOptions options = WordPiece::load(folder_.path()).options();
  EXPECT_FALSE(options.lowercase);
  EXPECT_EQ(options.strip_accents, true);
  EXPECT_FALSE(options.chinese_characters);
  EXPECT_EQ(options.longest, 512);
  write("tokenizer_config.json", {{"do_lower_case", true},
                                  {"strip_accents", nullptr},
                                  {"tokenize_chinese_chars", true},
                                  {"model_max_length", 128}});
  options = WordPiece::load(folder_ / "vocab.txt").options();
  EXPECT_TRUE(options.lowercase);
  EXPECT_EQ(options.strip_accents, std::nullopt);
  EXPECT_TRUE(options.chinese_characters);
  EXPECT_EQ(options.longest, 128);
  write_file(folder_ / "tokenizer_config.json",
             R"({"model_max_length": 1000000000000000019884624838656})");
  EXPECT_EQ(read_wordpiece_options(folder_.path()).longest, 512);
  std::filesystem::remove(folder_ / "vocab.txt");
  EXPECT_EQ(WordPiece::load(folder_.path()).encode("unaffable").ids, (Ids{2, 6, 7, 8, 3}))
      << "tokenizer.json has the vocabulary too";
}

TEST_F(WordPieceFolderTest, NamesWhatIsWrong) {
  const std::string list = folder_ / "vocab.txt", file = folder_ / "tokenizer.json",
                    config = folder_ / "tokenizer_config.json";
  const auto load = [this] { WordPiece::load(folder_.path()); };
  const auto without = [&](const std::string& token) {
    Tokens tokens = kVocabulary;
    std::erase(tokens, token);
    return [=, this] {
      write_vocabulary(tokens);
      load();
    };
  };
  expect_refused<FileError>({
      {"no folder", [&] { WordPiece::load(folder_ / "no"); }, "cannot be opened"},
      {"empty folder", load, list + ": cannot be opened"},
      {"PAD", without("[PAD]"), list + ": has to hold the special token [PAD], but does not"},
      {"UNK", without("[UNK]"), "special token [UNK]"},
      {"CLS", without("[CLS]"), "special token [CLS]"},
      {"SEP", without("[SEP]"), "special token [SEP]"},
      {"MASK", without("[MASK]"), "special token [MASK]"},
      {"twice",
       [&] {
         Tokens tokens = kVocabulary;
         tokens.push_back("##aff");
         write_vocabulary(tokens);
         load();
       },
       list + ":15: the token '##aff' has to be listed once, but is in line 8 too"},
  });
  write_vocabulary(kVocabulary);
  const auto with = [&](const json& value) {
    return [=, this] {
      write("tokenizer.json", value);
      load();
    };
  };
  json extra = tokenizer()["added_tokens"];
  extra.push_back({{"id", 15}, {"content", "<new>"}});
  expect_refused<FileError>({
      {"no object", with(json::array()), file + ": "},
      {"no model", with(json::object()), file + ": "},
      {"BPE", with(tokenizer("/model/type", "BPE")),
       file + R"(: type has to be "WordPiece", but got "BPE")"},
      {"prefix", with(tokenizer("/model/continuing_subword_prefix", "@@")), R"(but got "@@")"},
      {"unknown", with(tokenizer("/model/unk_token", "<unk>")), R"(but got "<unk>")"},
      {"long words", with(tokenizer("/model/max_input_chars_per_word", 200)),
       "max_input_chars_per_word has to be 100, but got 200"},
      {"normaliser", with(tokenizer("/normalizer/type", "NFC")), R"(but got "NFC")"},
      {"no normaliser", with(tokenizer("/normalizer", nullptr)), file + ": "},
      {"cleaning", with(tokenizer("/normalizer/clean_text", false)),
       "clean_text has to be true, but got false"},
      {"flag", with(tokenizer("/normalizer/lowercase", "yes")), file + ": "},
      {"added token", with(tokenizer("/added_tokens", extra)),
       "the added token '<new>' has to have the id 14, the next after the vocabulary, but got 15"},
      {"added without id", with(tokenizer("/added_tokens", json::array({{{"content", "<new>"}}}))),
       file + ": "},
      {"added flag", with(tokenizer("/added_tokens/4/lstrip", "yes")), file + ": "},
      {"not JSON",
       [&] {
         write_file(file, "{");
         load();
       },
       file + ": "},
  });
  std::filesystem::remove(list);
  expect_refused<FileError>({
      {"a gap", with(tokenizer("/model/vocab/fine", 99)),
       "the ids have to be 0..13, each once, but got 99 for 'fine'"},
      {"an id twice", with(tokenizer("/model/vocab/fine", 10)), "but got 10"},
      {"no id", with(tokenizer("/model/vocab/fine", "x")), file + ": "},
  });
  std::filesystem::remove(file);
  write_vocabulary(kVocabulary);
  write("tokenizer_config.json", {{"do_lower_case", 1.5}});
  expect_refused<FileError>({{"config", load, config + ": "}});
  write("tokenizer_config.json", {{"mask_token", "<mask>"}});
  expect_refused<FileError>(
      {{"other names", load, config + ": mask_token has to be [MASK], but got <mask>"}});
  write("tokenizer_config.json", {{"added_tokens_decoder", {{"x", {{"content", "<new>"}}}}}});
  expect_refused<FileError>({{"no number", load, config + ": "}});
  write("tokenizer_config.json", {{"model_max_length", 2}});
  expect_refused({{"too short", load, "longest has to be >= 3, but got 2"}});
}

}  // namespace
}  // namespace diffmask
