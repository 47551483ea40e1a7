#include "diffmask/zoo/nets/fine_tuning.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "diffmask/core/random.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

TEST(FrequencyWeightsTest, AreSmallerForRareTokens) {
  // Token 1: 3 of 4; token 0: 1 of 4; token 2: none.
  Encoding encoding;
  encoding.ids = {0, 1, 1, 1};
  encoding.types = encoding.words = {0, 0, 0, 0};
  encoding.bytes.resize(4);
  const at::Tensor weights = frequency_weights(EncodedDataset({encoding}), 3);
  EXPECT_NEAR(weights[1].item<double>(), 0.5 + 0.5 * (1 - std::sqrt(5e-4 / 0.75)), 1e-6);
  EXPECT_NEAR(weights[0].item<double>(), 0.5 + 0.5 * (1 - std::sqrt(5e-4 / 0.25)), 1e-6);
  EXPECT_NEAR(weights[2].item<double>(), 0.5, 1e-6);
}

TEST(LostWordsTest, AreReplacedByTheMask) {
  const WordPiece tokenizer = made_tokenizer();
  std::vector<Encoding> encodings;
  for (int i = 0; i < 200; ++i) encodings.push_back(tokenizer.encode("a good film with a story"));
  encodings.push_back(tokenizer.encode("a"));
  const Inputs inputs = EncodedDataset(encodings, {}, {.padding = tokenizer.padding()})
                            .batch(iota(static_cast<int64_t>(encodings.size())))
                            .inputs;
  const at::Generator generator = make_generator(0);
  const auto lost = [&](double most, double weight) {
    return with_lost_words(inputs, tokenizer, most, at::full({tokenizer.size()}, weight),
                           generator)[0];
  };
  EXPECT_TRUE(lost(0, 1).equal(inputs[0]));
  EXPECT_TRUE(lost(1, 0).equal(inputs[0]));
  const at::Tensor ids = lost(1, 1);
  const at::Tensor changed = ids.ne(inputs[0]);
  EXPECT_TRUE(ids.masked_select(changed).eq(tokenizer.mask()).all().item<bool>());
  for (const int64_t kept :
       {tokenizer.classification(), tokenizer.separator(), tokenizer.padding()}) {
    EXPECT_TRUE(ids.eq(kept).equal(inputs[0].eq(kept)));
  }
  // Rates uniform on (0, 1): half of the words, with a standard error of about 0.02.
  const double words = static_cast<double>(6 * 200 + 1);
  EXPECT_NEAR(changed.sum().item<double>() / words, 0.5, 0.08);
  EXPECT_NEAR(lost(0.5, 0.5).ne(inputs[0]).sum().item<double>() / words, 0.125, 0.04);
  expect_refused(
      {{"most", [&] { lost(1.5, 1); }, "most has to be in [0, 1], but got 1.5"},
       {"weights", [&] { with_lost_words(inputs, tokenizer, 1, at::ones({2}), generator); },
        "weights has to be of shape"},
       {"inputs", [&] { with_lost_words({}, tokenizer, 1, at::ones({2}), generator); },
        "inputs has to be at least the ids"}});
}

TEST(FineTuningTest, DecaysMatricesAlone) {
  const SupervisedOptions options = fine_tuning({.epochs = 2, .rate = 1e-3, .seed = 7});
  EXPECT_NO_THROW(options.validate());
  EXPECT_EQ(options.epochs, 2);
  EXPECT_EQ(options.seed, 7u);
  EXPECT_FALSE(options.decay_vectors);
  EXPECT_LT(options.rate_of(0, 100), 0.2e-3) << "it warms up";
  EXPECT_NEAR(options.rate_of(10, 100), 1e-3, 1e-12);
}

TEST(CrossEntropyTest, IsTheMeanOverExamples) {
  const at::Tensor y = at::tensor({1.0, 0.0, 0.0, 2.0}).view({2, 2});
  const at::Tensor labels = at::tensor(std::vector<int64_t>{0, 0}, at::kLong);
  const double by_hand = (std::log1p(std::exp(-1)) + std::log1p(std::exp(2))) / 2;
  EXPECT_NEAR(cross_entropy(y, labels).item<double>(), by_hand, 1e-6);
}

}  // namespace
}  // namespace diffmask
