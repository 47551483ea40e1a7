#include "diffmask/zoo/data/trees.hpp"

#include <gtest/gtest.h>

#include <array>

#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"
#include "tests/shared_data.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

using Words = std::vector<std::string>;
using Labels = std::vector<int64_t>;
using Phrases = std::vector<std::array<int64_t, 3>>;  // label, first, words

Phrases phrases_of(const LabelledSentence& sentence) {
  Phrases result;
  for (const auto& [label, first, words] : sentence.phrases) {
    result.push_back({label, static_cast<int64_t>(first), static_cast<int64_t>(words)});
  }
  return result;
}

class TreesTest : public testing::Test {
 protected:
  std::vector<LabelledSentence> trees_of(const std::string& text) const {
    write_file(path_, text);
    return read_trees(path_);
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "trees.txt";
};

TEST_F(TreesTest, ReadsWordsAndLabels) {
  const auto trees = trees_of(
      "(3 (2 A) (4 (4 fine) (2 film)))\r\n"
      "(0 bad)\n"
      "(2 (2 (2 -LRB-) (1 1\\/2)) (3 (2 \\*\\*) (2 -RRB-)) (2 caf\u00E9))");
  ASSERT_EQ(trees.size(), 3u);
  EXPECT_EQ(trees[0].label, 3);
  EXPECT_EQ(trees[0].words, (Words{"A", "fine", "film"}));
  EXPECT_EQ(trees[0].word_labels, (Labels{2, 4, 2}));
  EXPECT_EQ(trees[0].text(), "A fine film");
  EXPECT_EQ(trees[1].label, 0);
  EXPECT_EQ(trees[1].words, (Words{"bad"}));
  EXPECT_EQ(trees[2].words, (Words{"(", "1/2", "**", ")", "caf\u00E9"}));
  EXPECT_EQ(trees[2].word_labels, (Labels{2, 1, 2, 2, 2}));
}

TEST_F(TreesTest, ReadsPhrases) {
  const auto trees = trees_of(
      "(3 (2 A) (4 (4 fine) (2 film)))\n"
      "(0 bad)\n"
      "(1 (0 (2 No) (4 (4 fine) (2 film))) (3 (2 at) (2 all)))");
  EXPECT_EQ(phrases_of(trees[0]), (Phrases{{4, 1, 2}}));
  EXPECT_EQ(phrases_of(trees[1]), Phrases{});
  EXPECT_EQ(phrases_of(trees[2]), (Phrases{{4, 1, 2}, {0, 0, 3}, {3, 3, 2}}));
}

TEST_F(TreesTest, NamesBrokenLines) {
  const auto read = [this](const std::string& line) {
    return [=, this] { trees_of("(2 fine)\n" + line + "\n(2 fine)\n"); };
  };
  const std::string at = path_ + ":2: ";
  expect_refused<FileError>({
      {"no file", [&] { read_trees(folder_ / "no"); }, "cannot be opened"},
      {"empty file", [&] { trees_of(""); }, path_ + ": has no trees"},
      {"empty line", read(""), at + "has no tree"},
      {"open", read("(2 (2 a) (2 b)"), at + "leaves 1 nodes open"},
      {"closed twice", read("(2 a))"), at + "has something after the tree at character 6"},
      {"closed first", read(")"), at + "closes what is not open at character 1"},
      {"two trees", read("(2 a) (2 b)"), at + "has something after the tree at character 7"},
      {"bare word", read("fine"), at + "has a word outside a node of its own at character 1"},
      {"label 5", read("(5 a)"), at + "the label has to be 0..4, but got '5' at character 1"},
      {"label 10", read("(10 a)"), "but got '10'"},
      {"label -1", read("(-1 a)"), "but got '-1'"},
      {"no label", read("((2 a))"), "but got ''"},
      {"label at the end", read("("), "but got ''"},
      {"nothing in it", read("(2 (2 ))"), at + "has a node without a word or parts at character 7"},
      {"two words", read("(2 a b)"), "has a word outside a node of its own at character 6"},
      {"word, part", read("(2 a (2 b))"), at + "has a word and parts at character 6"},
      {"part, word", read("(2 (2 b) a)"), "has a word outside a node of its own"},
  });
}

TEST_F(TreesTest, TakesAnyDepth) {
  std::string deep;
  for (int i = 0; i < 200000; ++i) deep += "(2 ";
  expect_refused<FileError>({{"deep", [&] { trees_of(deep); }, "leaves 200000 nodes open"}});
  EXPECT_EQ(trees_of(deep + "a" + std::string(200000, ')'))[0].words, (Words{"a"}));
}

TEST(TreebankTest, HasTheNumbersOfItsPaper) {
  struct Split {
    std::string name;
    Labels sentences, phrases, words;  // by label
  };
  // Counted apart from this reader, by a regular expression.
  const std::vector<Split> table = {
      {"train",
       {1092, 2218, 1624, 2322, 1288},
       {6023, 24349, 77749, 30348, 8006},
       {1130, 7795, 140415, 11524, 2699}},
      {"dev",
       {139, 289, 229, 279, 165},
       {785, 3332, 9845, 3991, 1119},
       {146, 992, 18231, 1511, 394}},
      {"test",
       {279, 633, 389, 510, 399},
       {1423, 6615, 19834, 7429, 2684},
       {306, 2007, 36325, 3059, 708}},
  };
  for (const auto& [name, sentences, phrases, words] : table) {
    DIFFMASK_NEEDS_DATA(path, "sst/" + name + ".txt");
    Labels of_sentences(5), of_phrases(5), of_words(5);
    for (const LabelledSentence& sentence : read_trees(path)) {
      ++of_sentences[sentence.label];
      for (const LabelledPhrase& phrase : sentence.phrases) {
        ++of_phrases[phrase.label];
        ASSERT_LE(phrase.first + phrase.words, sentence.words.size());
      }
      ASSERT_EQ(sentence.words.size(), sentence.word_labels.size());
      for (const int64_t label : sentence.word_labels) ++of_words[label];
    }
    EXPECT_EQ(of_sentences, sentences) << name;
    EXPECT_EQ(of_phrases, phrases) << name;
    EXPECT_EQ(of_words, words) << name;
  }
}

TEST(WithPhrasesTest, AddsSomeOfTheLongPhrases) {
  const std::vector<std::string> words = {"a", "very", "fine", "old", "film"};
  const LabelledSentence sentence{3, words, {2, 2, 4, 2, 2}, {{4, 1, 4}, {2, 3, 2}, {3, 0, 4}}};
  const at::Generator generator = make_generator(0);
  const auto one = with_phrases({sentence, sentence}, 1, generator);
  ASSERT_EQ(one.size(), 4u) << "one for each sentence, after the sentences";
  EXPECT_EQ(one[1].words, words);
  EXPECT_EQ(one[2].words.size(), 4u);
  const auto all = with_phrases({sentence}, 9, generator);
  ASSERT_EQ(all.size(), 3u) << "the phrase of two words is too short";
  EXPECT_NE(all[1].words, all[2].words);
  for (const size_t i : {1u, 2u}) {
    const bool is_first = all[i].words.front() == "a";
    EXPECT_EQ(all[i].label, is_first ? 3 : 4);
    EXPECT_EQ(all[i].words.back(), is_first ? "old" : "film");
  }
  EXPECT_EQ(with_phrases({sentence}, 9, generator, 2).size(), 4u);
  EXPECT_EQ(with_phrases({sentence}, 0, generator).size(), 1u);
  EXPECT_EQ(sentiment_names().at(4), "very_positive");
}

}  // namespace
}  // namespace diffmask
