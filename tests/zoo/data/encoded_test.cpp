#include "diffmask/zoo/data/encoded.hpp"

#include <gtest/gtest.h>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

// [CLS] 10 11 12 [SEP] with 10 and 11 in one word, and [CLS] 20 [SEP].
std::vector<Encoding> two() {
  Encoding longer, shorter;
  longer.ids = {1, 10, 11, 12, 2};
  longer.words = {-1, 0, 0, 1, -1};
  longer.types = {0, 0, 0, 0, 0};
  shorter.ids = {1, 20, 2};
  shorter.words = {-1, 0, -1};
  shorter.types = {0, 0, 0};
  return {longer, shorter};
}

at::Tensor numbers(const std::vector<int64_t>& values, int64_t columns) {
  return at::tensor(values, at::kLong).view({-1, columns});
}

TEST(EncodedDatasetTest, ExplainsTheTokensOfWordsAndLetsTheModelReadAll) {
  const EncodedDataset data(two(), at::tensor({3, 4}, at::kLong), {.padding = 9});
  EXPECT_EQ(data.size(), 2);
  EXPECT_EQ(data.length(0), 5);
  const Batch batch = data.batch({1, 0});
  EXPECT_NO_THROW(batch.validate());
  ASSERT_EQ(batch.inputs.size(), 2u);
  EXPECT_TRUE(batch.inputs[0].equal(numbers({1, 20, 2, 9, 9, 1, 10, 11, 12, 2}, 5)));
  EXPECT_TRUE(batch.inputs[1].equal(numbers({1, 1, 1, 0, 0, 1, 1, 1, 1, 1}, 5).to(at::kBool)));
  EXPECT_TRUE(batch.mask.equal(numbers({0, 1, 0, 0, 0, 0, 1, 1, 1, 0}, 5).to(at::kBool)));
  EXPECT_TRUE(batch.labels.equal(at::tensor({4, 3}, at::kLong)));
  EXPECT_TRUE(batch.examples.equal(at::tensor({1, 0}, at::kLong)));
  EXPECT_FALSE(batch.groups.defined());
  EXPECT_EQ(data.batch({1}).inputs[0].size(1), 3) << "cut to the batch's longest";
  const EncodedDataset spans(two(), numbers({1, 2, 1, 1}, 2));
  EXPECT_TRUE(spans.batch({1}).labels.equal(numbers({1, 1}, 2)));
}

TEST(EncodedDatasetTest, ExplainsSpecialTokensWhereAsked) {
  const EncodedDataset data(two(), {}, {.explain_special = true});
  const Batch batch = data.batch({0, 1});
  EXPECT_TRUE(batch.mask.equal(batch.inputs[1]));
  EXPECT_FALSE(batch.labels.defined());
}

TEST(EncodedDatasetTest, TiesTheSubWordsOfAWord) {
  const EncodedDataset data(two(), {}, {.tie_words = true});
  EXPECT_TRUE(data.batch({0, 1}).groups.equal(numbers({-1, 0, 0, 1, -1, -1, 0, -1, -1, -1}, 5)));
  const EncodedDataset all(two(), {}, {.explain_special = true, .tie_words = true});
  const Batch batch = all.batch({0});
  EXPECT_TRUE(batch.groups.equal(numbers({0, 1, 1, 2, 3}, 5)));
  EXPECT_NO_THROW(batch.validate());
}

TEST(EncodedDatasetTest, GivesTheTypesOfPairsAndNumbersTheirWordsApart) {
  Encoding pair;
  pair.ids = {1, 10, 2, 30, 31, 2};
  pair.words = {-1, 0, -1, 0, 3, -1};  // words 1 and 2 had no token
  pair.types = {0, 0, 0, 1, 1, 1};
  auto encodings = two();
  encodings.push_back(pair);
  const Batch batch = EncodedDataset(encodings, {}, {.tie_words = true}).batch({1, 2});
  ASSERT_EQ(batch.inputs.size(), 3u);
  EXPECT_TRUE(batch.inputs[2].equal(numbers({0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1}, 6)));
  EXPECT_TRUE(batch.groups[1].equal(at::tensor({-1, 0, -1, 1, 2, -1}, at::kLong)));
}

TEST(EncodedDatasetTest, RefusesBadInput) {
  Encoding framed, torn;
  framed.ids = {1, 2};
  framed.words = {-1, -1};
  framed.types = {0, 0};
  torn.ids = {1, 2};
  torn.words = {0};
  torn.types = {0, 0};
  const EncodedDataset data(two());
  expect_refused({
      {"none", [] { EncodedDataset({}); }, "encodings has to be of at least one text"},
      {"nothing to explain", [=] { EncodedDataset({framed}); },
       "encodings[0] has to be of at least one token to explain, but got 0"},
      {"torn", [=] { EncodedDataset({torn}); }, "encodings[0] has to be of as many ids"},
      {"labels", [] { EncodedDataset(two(), at::zeros({3}, at::kLong)); },
       "labels has to be one for each of 2 encodings, but got (3)"},
      {"a label", [] { EncodedDataset(two(), at::zeros({}, at::kLong)); }, "labels has to be one"},
      {"no examples", [&] { data.batch({}); }, "examples has to be at least one"},
      {"example", [&] { data.batch({2}); }, "example has to be in 0..1, but got 2"},
  });
}

TEST(WordMeansTest, AveragesAWordsTokens) {
  const at::Tensor values = at::tensor({9.0, 1.0, 2.0, 5.0, 9.0, 7.0}, at::kDouble);
  EXPECT_EQ(word_means(two()[0], values, 3), (std::vector<double>{1.5, 5.0, 0.0}));
  expect_refused({
      {"few words", [&] { word_means(two()[0], values, 1); }, "words has to be > 1, but got 1"},
      {"few values", [&] { word_means(two()[0], values.slice(0, 0, 4), 2); },
       "values has to be of at least 5 tokens, but got 4"},
  });
}

}  // namespace
}  // namespace diffmask
