#include "diffmask/zoo/data/squad.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "diffmask/core/file.hpp"
#include "tests/bad_input.hpp"
#include "tests/shared_data.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

const std::string kContext = "The caf\u00E9 \u2013 an old \U0001F600 one \u2013 burned.";

json answer(const std::string& text, int64_t start) {
  return {{"text", text}, {"answer_start", start}};
}

// The file of one paragraph with these questions. Braces around one json value are that value, so
// lists are vectors.
json squad_of(const std::vector<json>& questions) {
  const json paragraph = {{"context", kContext}, {"qas", questions}};
  const json article = {{"title", "Fire"}, {"paragraphs", std::vector<json>{paragraph}}};
  return {{"version", "1.1"}, {"data", std::vector<json>{article}}};
}

json question(const std::string& id, const std::vector<json>& answers) {
  return {{"id", id}, {"question", "What burned?"}, {"answers", answers}};
}

class SquadTest : public testing::Test {
 protected:
  Squad read(const json& file) const {
    write_file(path_, file.dump());
    return read_squad(path_);
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "squad.json";
};

TEST_F(SquadTest, TurnsCharactersIntoBytes) {
  const Squad squad =
      read(squad_of({question("q1", {answer("The caf\u00E9", 0), answer("burned", 26)}),
                     question("q2", {answer("\U0001F600 one", 18)})}));
  ASSERT_EQ(squad.contexts, std::vector<std::string>{kContext});
  ASSERT_EQ(squad.questions.size(), 2u);
  EXPECT_EQ(squad.questions[0].id, "q1");
  EXPECT_EQ(squad.questions[0].text, "What burned?");
  ASSERT_EQ(squad.questions[0].answers.size(), 2u);
  for (const SquadQuestion& one : squad.questions) {
    for (const auto& [text, bytes] : one.answers) {
      EXPECT_EQ(kContext.substr(bytes.begin, bytes.end - bytes.begin), text);
    }
  }
  EXPECT_EQ(squad.questions[0].answers[1].bytes, (ByteSpan{34, 40}));
}

TEST_F(SquadTest, NamesWhatIsWrong) {
  const auto with = [this](const json& file) { return [=, this] { read(file); }; };
  const auto asked = [&](const json& one) { return with(squad_of({one})); };
  const auto without = [&](const std::string& key) {
    json one = question("q1", {answer("The", 0)});
    one.erase(key);
    return asked(one);
  };
  const std::string q1 = path_ + ": question q1: ";
  expect_refused<FileError>({
      {"no file", [&] { read_squad(folder_ / "no"); }, "cannot be opened"},
      {"not JSON",
       [&] {
         write_file(path_, "{");
         read_squad(path_);
       },
       path_ + ": "},
      {"no data", with(json::object()), "'data' not found"},
      {"no list", with({{"data", 3}}), path_ + ": "},
      {"no questions", with(squad_of({})), path_ + ": has no questions"},
      {"no id", without("id"), "'id' not found"},
      {"no question", without("question"), q1},
      {"no answers", without("answers"), q1},
      {"empty answers", asked(question("q1", {})), q1 + "has no answer"},
      {"no start", asked(question("q1", {json::object({{"text", "The"}})})),
       "'answer_start' not found"},
      {"start as text",
       asked(question("q1", {json::object({{"text", "The"}, {"answer_start", "0"}})})), q1},
      {"shifted", asked(question("q1", {answer("The", 1)})),
       q1 + "the answer has to be the context's text at 1, 'he ', but got 'The'"},
      {"over the end", asked(question("q1", {answer("burned.!", 26)})), "'burned.', but got"},
      {"behind", asked(question("q1", {answer("x", 34)})),
       q1 + "answer_start has to be in 0..33, but got 34"},
      {"negative", asked(question("q1", {answer("x", -1)})), "but got -1"},
      {"no text", asked(question("q1", {answer("", 0)})), q1 + "has an answer without text"},
      {"twice",
       with(squad_of({question("q1", {answer("The", 0)}), question("q1", {answer("The", 0)})})),
       q1 + "the id is there twice"},
  });
}

const std::vector<std::string> kSquadVocabulary = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",  "[MASK]",
                                                   "the",   "caf",   "##e",   "burned", "what"};

TEST_F(SquadTest, FindsTheTokensOfAnAnswer) {
  const Squad squad = read(squad_of({question("all", {answer("The caf\u00E9", 0)}),
                                     question("part", {answer("f\u00E9 \u2013", 6)}),
                                     question("end", {answer("burned", 26)})}));
  // [CLS] what burned ? [SEP] the caf ##e - an old UNK one - burned . [SEP]
  const WordPiece tokenizer(kSquadVocabulary, {});
  const SpanExamples all = span_examples(squad, tokenizer, CutAnswers::drop);
  ASSERT_EQ(all.examples.size(), 3u);
  EXPECT_EQ(all.cut_contexts, 0);
  EXPECT_EQ(all.cut_answers, 0);
  const std::vector<std::array<int64_t, 2>> expected = {{5, 7}, {6, 8}, {14, 14}};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(all.examples[i].question, i);
    EXPECT_EQ(all.examples[i].first, expected[i][0]);
    EXPECT_EQ(all.examples[i].last, expected[i][1]);
  }
  EXPECT_EQ(span_text(squad, all.examples[0], 5, 7), "The caf\u00E9");
  EXPECT_EQ(span_text(squad, all.examples[1], 6, 8), "caf\u00E9 \u2013");
  const EncodedDataset data = span_dataset(all.examples, {.padding = 0});
  EXPECT_EQ(data.size(), 3);
  const Batch batch = data.batch({2, 0});
  EXPECT_TRUE(batch.labels.equal(at::tensor({14, 14, 5, 7}, at::kLong).view({2, 2})));
  EXPECT_EQ(batch.inputs.size(), 3u) << "types, too";
  expect_refused({{"empty", [] { span_dataset({}); }, "encodings has to be of at least one"}});
  const SpanExample& one = all.examples[0];
  expect_refused({
      {"question", [&] { span_text(squad, one, 1, 7); },
       "first has to be a token of the context, but got 1"},
      {"separator", [&] { span_text(squad, one, 5, 16); }, "last has to be a token of the context"},
      {"beyond", [&] { span_text(squad, one, 5, 17); }, "but got 17"},
      {"-1", [&] { span_text(squad, one, -1, 7); }, "but got -1"},
      {"order", [&] { span_text(squad, one, 7, 5); }, "first has to be <= last, but got 7 > 5"},
  });
}

TEST_F(SquadTest, CountsAnswersThatAreCutOff) {
  const Squad squad = read(squad_of({question("kept", {answer("The caf\u00E9", 0)}),
                                     question("half", {answer("caf\u00E9 \u2013", 4)}),
                                     question("lost", {answer("burned", 26)})}));
  WordPieceOptions options{.longest = 9};  // [CLS] what burned ? [SEP] the caf ##e [SEP]
  const SpanExamples kept =
      span_examples(squad, WordPiece(kSquadVocabulary, options), CutAnswers::keep);
  ASSERT_EQ(kept.examples.size(), 3u);
  EXPECT_EQ(kept.cut_contexts, 3);
  EXPECT_EQ(kept.cut_answers, 2);
  EXPECT_TRUE(kept.examples[0].has_answer());
  EXPECT_FALSE(kept.examples[1].has_answer());
  EXPECT_EQ(kept.examples[1].last, -1);
  EXPECT_FALSE(kept.examples[2].has_answer());
  const SpanExamples dropped =
      span_examples(squad, WordPiece(kSquadVocabulary, options), CutAnswers::drop);
  EXPECT_EQ(dropped.examples.size(), 1u);
  EXPECT_EQ(dropped.cut_answers, 2);
  const auto examples = [&](int64_t longest, WordPieceOptions::Overflow overflow) {
    return [&squad, longest, overflow] {
      WordPieceOptions options{.longest = longest, .overflow = overflow};
      span_examples(squad, WordPiece(kSquadVocabulary, options), CutAnswers::keep);
    };
  };
  expect_refused<Error>({
      {"no room", examples(6, WordPieceOptions::Overflow::truncate),
       "question kept: first has to be fewer than 3 tokens long, but got 3"},
      {"error", examples(9, WordPieceOptions::Overflow::error),
       "question kept: text has to be at most 6 tokens long"},
  });
}

TEST(SquadFilesTest, AreReadWhole) {
  struct File {
    std::string name;
    size_t contexts, questions, answers;
  };
  for (const File& file :
       {File{"xquad.en", 240, 1190, 1190}, File{"squadshifts_new_wiki_v1.0", 1581, 7938, 22794}}) {
    DIFFMASK_NEEDS_DATA(path, "squad/" + file.name + ".json");
    const Squad squad = read_squad(path);
    EXPECT_EQ(squad.contexts.size(), file.contexts);
    EXPECT_EQ(squad.questions.size(), file.questions);
    size_t answers = 0;
    for (const SquadQuestion& one : squad.questions) answers += one.answers.size();
    EXPECT_EQ(answers, file.answers);
  }
}

// Counted with Hugging Face's tokenizers library and the vocabulary of bert-base-uncased.
TEST(SquadFilesTest, GiveTheReferencesSpans) {
  const char* folder = std::getenv("DIFFMASK_WORDPIECE");
  if (!folder) GTEST_SKIP() << "DIFFMASK_WORDPIECE is not set (see tests/reference/wordpiece.py)";
  struct Case {
    std::string name;
    int64_t longest, cut_contexts, cut_answers, sum;
  };
  for (const Case& one :
       {Case{"xquad.en", 512, 21, 2, 780318}, Case{"xquad.en", 384, 21, 6, 766087},
        Case{"xquad.en", 128, 936, 246, 446563},
        Case{"squadshifts_new_wiki_v1.0", 384, 83, 7, 5088759}}) {
    DIFFMASK_NEEDS_DATA(path, "squad/" + one.name + ".json");
    const WordPiece tokenizer = WordPiece::load(folder, WordPieceOptions{.longest = one.longest});
    if (tokenizer.size() != 30522) GTEST_SKIP() << "the vocabulary is not bert-base-uncased's";
    const Squad squad = read_squad(path);
    const SpanExamples result = span_examples(squad, tokenizer, CutAnswers::drop);
    EXPECT_EQ(result.cut_contexts, one.cut_contexts);
    EXPECT_EQ(result.cut_answers, one.cut_answers);
    int64_t sum = 0;
    for (const SpanExample& example : result.examples) sum += 7 * example.first + example.last;
    EXPECT_EQ(sum, one.sum);
  }
}

}  // namespace
}  // namespace diffmask
