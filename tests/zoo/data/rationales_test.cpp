#include "diffmask/zoo/data/rationales.hpp"

#include <gtest/gtest.h>

#include <map>

#include "diffmask/core/file.hpp"
#include "diffmask/zoo/data/trees.hpp"
#include "tests/bad_input.hpp"
#include "tests/shared_data.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

const std::string kColumns =
    "text_id\tannotator\toriginal_label\tannotator_label\tsst2_split\tsst2_id\tptb_split\t"
    "ptb_line0\trationale_per_whitespace_token\tsentence\n";
const std::string kFine =
    "7\t12\tpositive\tno sentiment\tvalidation\t3\tdev\t41\t0 1 0\tA fine film.\n";

class RationalesTest : public testing::Test {
 protected:
  std::vector<RationaleSentence> read(const std::string& text) const {
    write_file(path_, text);
    return read_rationales(path_);
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "rationales.tsv";
};

TEST_F(RationalesTest, GathersTheAnnotatorsOfASentence) {
  const auto sentences =
      read(kColumns + kFine + "8\t12\tnegative\tnegative\t\t-1\t\t-1\t1\tBad.\n" +
           "7\t13\tpositive\tpositive\tvalidation\t3\tdev\t41\t0 1 1\tA fine film.\n");
  ASSERT_EQ(sentences.size(), 2u);
  const RationaleSentence& fine = sentences[0];
  EXPECT_EQ(fine.id, "7");
  EXPECT_EQ(fine.label, "positive");
  EXPECT_EQ(fine.split, "dev");
  EXPECT_EQ(fine.line, 41);
  EXPECT_EQ(fine.words, (std::vector<std::string>{"A", "fine", "film."}));
  ASSERT_EQ(fine.rationales.size(), 2u);
  EXPECT_EQ(fine.rationales[0].annotator, "12");
  EXPECT_EQ(fine.rationales[0].label, "no sentiment");
  EXPECT_EQ(fine.rationales[0].is_decisive, (std::vector<bool>{false, true, false}));
  EXPECT_EQ(fine.rationales[1].is_decisive, (std::vector<bool>{false, true, true}));
  EXPECT_EQ(sentences[1].split, "");
  EXPECT_EQ(sentences[1].line, -1);
}

TEST_F(RationalesTest, NamesBrokenLines) {
  const auto with = [this](const std::string& id, const std::string& annotator,
                           const std::string& line, const std::string& marks,
                           const std::string& text) {
    return [=, this] {
      read(kColumns + kFine + id + "\t" + annotator + "\tpositive\tpositive\tvalidation\t3\tdev\t" +
           line + "\t" + marks + "\t" + text + "\n");
    };
  };
  const std::string at = path_ + ":3: ", text = "A fine film.", marks = "0 1 1";
  expect_refused<FileError>({
      {"no file", [&] { read_rationales(folder_ / "no"); }, "cannot be opened"},
      {"empty file", [&] { read(""); }, path_ + ": has no rationales"},
      {"no columns", [&] { read(kFine); },
       path_ + ":1: has to hold the columns text_id, annotator"},
      {"columns alone", [&] { read(kColumns); }, path_ + ": has no rationales"},
      {"fields", [&] { read(kColumns + "7\t12\n"); }, ":2: has to hold 10 fields, but got 2"},
      {"marks", with("8", "1", "4", "0 1", text),
       at + "the rationale has to be of 3 marks, one per word, but got 2"},
      {"a mark", with("8", "1", "4", "0 2 1", text),
       at + "the rationale has to be of 0 and 1, but got '2'"},
      {"no mark", with("8", "1", "4", "", text), "but got ''"},
      {"spaces", with("8", "1", "4", marks, "A  fine film."),
       at + "the sentence has to be words with"},
      {"no text", with("8", "1", "4", "", ""), "the sentence has to be words"},
      {"line", with("8", "1", "x", marks, text),
       at + "ptb_line0 has to be a whole number >= -1, but got 'x'"},
      {"line -2", with("8", "1", "-2", marks, text), "but got '-2'"},
      {"line 4x", with("8", "1", "4x", marks, text), "but got '4x'"},
      {"annotator twice", with("7", "12", "41", marks, text),
       at + "has a second rationale of annotator 12 for sentence 7"},
      {"another text", with("7", "13", "41", marks, "A fine movie."),
       at + "differs from the sentence 7 of before"},
      {"another line", with("7", "13", "42", marks, text), "differs from the sentence 7"},
  });
}

TEST(FairRationalesTest, AreOfTheTreebanksSentences) {
  DIFFMASK_NEEDS_DATA(path, "rationales/fair_rationales_sst.tsv");
  const auto joined = [](const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words) text += word;
    return text;
  };
  std::map<std::string, std::vector<LabelledSentence>> trees;
  for (const std::string split : {"train", "dev", "test"}) {
    DIFFMASK_NEEDS_DATA(file, "sst/" + split + ".txt");
    trees[split] = read_trees(file);
  }
  const auto sentences = read_rationales(path);
  EXPECT_EQ(sentences.size(), 263u);
  std::map<std::string, int64_t> splits;
  int64_t different = 0;
  for (const RationaleSentence& sentence : sentences) {
    EXPECT_EQ(sentence.rationales.size(), 6u);
    ++splits[sentence.split];
    if (sentence.split.empty()) continue;
    const LabelledSentence& tree = trees.at(sentence.split).at(sentence.line);
    EXPECT_EQ(tree.label > 2, sentence.label == "positive") << sentence.id;
    different += joined(tree.words) != joined(sentence.words);
  }
  const std::map<std::string, int64_t> expected = {
      {"", 1}, {"dev", 26}, {"test", 56}, {"train", 180}};
  EXPECT_EQ(splits, expected);
  EXPECT_EQ(different, 4);
}

TEST(CarriedOverTest, MatchesWordsByTheirCharacters) {
  const std::vector<std::string> leaves = {"film", "'s", "dull", "."}, words = {"film's", "dull."};
  using Chosen = std::vector<bool>;
  EXPECT_EQ(carried_over({false, true, false, false}, leaves, words), (Chosen{true, false}));
  EXPECT_EQ(carried_over({false, false, true, false}, leaves, words), (Chosen{false, true}));
  EXPECT_EQ(carried_over({true, false}, words, leaves), (Chosen{true, true, false, false}));
  EXPECT_TRUE(carried_over({true, false}, {"other", "text"}, words).empty());
  expect_refused({{"size", [&] { carried_over({true}, leaves, words); },
                   "chosen has to be one for each of 4 words, but got 1"}});
}

}  // namespace
}  // namespace diffmask
