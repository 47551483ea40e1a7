#include "diffmask/zoo/tasks/plausibility.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "diffmask/core/random.hpp"
#include "diffmask/zoo/tasks/made.hpp"

namespace diffmask {
namespace {

class PlausibilityTest : public testing::Test {
 protected:
  // Two sentences of three words; with [CLS] and [SEP], five tokens.
  const Sentences sentences_ = encode_sentences(
      {{3, {"a", "good", "film"}, {2, 4, 2}}, {1, {"the", "dull", "actor"}, {2, 0, 2}}},
      made_tokenizer());

  // Scores of two depths, the last as given.
  static at::Tensor scores(std::vector<double> last) {
    const at::Tensor values = at::tensor(last, at::kDouble);
    return at::stack({at::ones_like(values), values}, 1);
  }
};

TEST_F(PlausibilityTest, IsTheTokenF1OfTheWordsKeptAtTheLastDepth) {
  const std::vector<RationaleSentence> rationales = {
      {"1",
       "positive",
       "test",
       0,
       {"a", "good", "film"},
       {{"x", "positive", {false, true, false}}, {"y", "positive", {false, true, true}}}},
      {"2",
       "negative",
       "test",
       1,
       {"the", "dull", "actor"},
       {{"x", "negative", {false, true, false}}}},
      {"3", "negative", "dev", 0, {"a", "good", "film"}, {{"x", "negative", {true, true, true}}}},
      {"4", "negative", "test", 1, {"another", "text"}, {{"x", "negative", {true, true}}}}};
  Plausibility people;
  people.add(rationales, "test", sentences_,
             {scores({0, 0.1, 0.9, 0.2, 0}), scores({0, 0.8, 0.9, 0.2, 0})}, make_generator(0));
  EXPECT_EQ(people.sentences(), 2) << "other splits and texts do not count";
  // First: F1 of {1} against {1} and {1, 2}: 1 and 2/3. Second: {0, 1} against {1}: 2/3.
  EXPECT_NEAR(people.f1(), ((1 + 2.0 / 3) / 2 + 2.0 / 3) / 2, 1e-12);
  // All words: 1/2 and 4/5; 1/2.
  EXPECT_NEAR(people.all_f1(), ((0.5 + 0.8) / 2 + 0.5) / 2, 1e-12);
  EXPECT_GE(people.random_f1(), 0);
  EXPECT_LT(people.random_f1(), people.f1() + 1e-12);
  const auto figures = nlohmann::json::parse(people.json());
  EXPECT_EQ(figures.at("diffmask"), people.f1());
  EXPECT_EQ(figures.at("uniform"), people.all_f1());
  EXPECT_EQ(figures.at("sentences"), 2);
}

TEST_F(PlausibilityTest, IsZeroOfNothing) { EXPECT_EQ(Plausibility().f1(), 0); }

TEST_F(PlausibilityTest, SentencesAreEncodedWithTheirLabels) {
  EXPECT_TRUE(sentences_.data.labels().equal(at::tensor(std::vector<int64_t>{3, 1}, at::kLong)));
  EXPECT_EQ(sentences_.data.length(0), 5);
  const Encoding& encoding = sentences_.data.encodings()[0];
  const at::Tensor mask = at::tensor({0, 1, 1, 1, 0, 0}).to(at::kBool);
  EXPECT_EQ(token_names(made_tokenizer(), encoding, mask),
            (std::vector<std::string>{"a", "good", "film"}));
}

TEST_F(PlausibilityTest, SurvivalIsTheMeanOfWordsOfASentiment) {
  const auto means = survival_by_sentiment(
      sentences_, {scores({0, 0.5, 1, 0, 0}), scores({0, 0.25, 0.75, 0.25, 0})});
  EXPECT_NEAR(means[0], 1.75, 1e-12);
  EXPECT_NEAR(means[2], (1.5 + 1.0 + 1.25 + 1.25) / 4, 1e-12);
  EXPECT_NEAR(means[4], 2.0, 1e-12);
  EXPECT_TRUE(std::isnan(means[1]));
}

}  // namespace
}  // namespace diffmask
