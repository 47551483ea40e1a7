#include "diffmask/zoo/nets/gru_classifier.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "diffmask/core/random.hpp"
#include "diffmask/data/dataset.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

GruClassifierOptions small_options() {
  GruClassifierOptions options;
  options.vocabulary = 30;
  options.classes = 3;
  options.embedding_size = 6;
  options.hidden_size = 5;
  return options;
}

std::shared_ptr<GruClassifier> gru_net(uint64_t seed = 0,
                                       GruClassifierOptions options = small_options()) {
  auto net = std::make_shared<GruClassifier>(options, make_generator(seed));
  net->eval();
  return net;
}

// 12 reviews of 1 to 12 words.
PaddedDataset reviews() {
  const at::Tensor words =
      at::randint(2, 30, {12, 12}, make_generator(1), at::TensorOptions(at::kLong));
  return PaddedDataset({{words, /*is_sequence=*/true}}, at::arange(12, at::kLong) + 1);
}

at::Tensor logits(const GruClassifier& net, const Batch& batch) {
  at::NoGradGuard no_grad;
  return net.forward(batch.inputs[0], batch.mask);
}

TEST(GruClassifierTest, PaddingDoesNotChangeLogits) {
  const auto net = gru_net();
  const PaddedDataset data = reviews();
  const at::Tensor together = logits(*net, data.batch(iota(12)));
  ASSERT_EQ(together.sizes(), at::IntArrayRef({12, 3}));
  EXPECT_GT(together.std(0).min().item<float>(), 1e-3) << "logits all alike test nothing";
  for (int64_t i = 0; i < 12; ++i) {
    const at::Tensor alone = logits(*net, data.batch({i}))[0];
    EXPECT_LT((alone - together[i]).abs().max().item<float>(), 1e-6) << i;
  }
}

TEST(GruClassifierTest, WhatStandsInPaddingIsNotRead) {
  const auto net = gru_net();
  const auto model = staged(net);
  const Batch batch = reviews().batch({3, 11, 0});
  const Recording recording = model->record(batch.inputs);
  const at::Tensor padding = batch.mask.logical_not();
  ASSERT_TRUE(padding.any().item<bool>());
  for (const std::string& site : model->site_names()) {
    for (const double value : {1e6, static_cast<double>(NAN)}) {
      const at::Tensor state = recording.state(site).masked_fill(padding.unsqueeze(2), value);
      EXPECT_TRUE(model->resume(recording, site, state).equal(recording.output()))
          << site << " filled with " << value;
    }
  }
  for (const std::string site : {"gru.0", "gru.1"}) {
    const at::Tensor state = recording.state(site).masked_select(padding.unsqueeze(2));
    EXPECT_TRUE(state.eq(0).all().item<bool>()) << site;
  }
  const at::Tensor words = batch.inputs[0].masked_fill(padding, 29);
  EXPECT_TRUE(net->forward(words, batch.mask).equal(recording.output()));
}

TEST(GruClassifierTest, IsAStagedModel) {
  const auto net = gru_net();
  const auto model = staged(net);
  const Batch batch = reviews().batch({4, 9});
  const Recording recording = model->record(batch.inputs);
  EXPECT_EQ(model->site_names(), (std::vector<std::string>{"embedding", "gru.0", "gru.1"}));
  EXPECT_EQ(recording.state("embedding").sizes(), at::IntArrayRef({2, 10, 6}));
  EXPECT_EQ(recording.state("gru.0").sizes(), at::IntArrayRef({2, 10, 10}));
  EXPECT_EQ(recording.state("gru.1").sizes(), at::IntArrayRef({2, 10, 10}));
  EXPECT_TRUE(recording.output().equal(logits(*net, batch)));
  for (const std::string& site : model->site_names()) {
    EXPECT_TRUE(model->resume(recording, site, recording.state(site)).equal(recording.output()));
    EXPECT_FALSE(model->resume(recording, site, -recording.state(site)).equal(recording.output()));
  }
}

TEST(GruClassifierTest, ReadsWordsInTheirOrder) {
  const auto net = gru_net();
  const Batch batch = reviews().batch({9});
  Batch reversed = batch;
  reversed.inputs[0] = batch.inputs[0].flip(1);
  EXPECT_FALSE(at::allclose(logits(*net, batch), logits(*net, reversed), 0, 1e-4));
}

TEST(GruClassifierTest, EvaluationDrawsNothing) {
  const auto net = gru_net();
  const Batch batch = reviews().batch(iota(12));
  EXPECT_TRUE(logits(*net, batch).equal(logits(*net, batch)));
  EXPECT_TRUE(logits(*net, batch).equal(logits(*gru_net(), batch))) << "same seed";
  EXPECT_FALSE(logits(*net, batch).equal(logits(*gru_net(1), batch)));
}

TEST(GruClassifierTest, DropoutIsDrawnFromItsOwnGenerator) {
  const Batch batch = reviews().batch(iota(12));
  const auto draws = [&](uint64_t seed) {
    const auto net = gru_net(seed);
    net->train();
    const at::Tensor first = logits(*net, batch);
    at::rand({7});  // of the global generator, which is not to matter
    return at::stack({first, logits(*net, batch)});
  };
  const at::Tensor one = draws(1);
  EXPECT_FALSE(one[0].equal(one[1])) << "nothing was drawn";
  at::manual_seed(1);
  const at::Tensor again = draws(1);
  EXPECT_TRUE(again.equal(one));
  EXPECT_FALSE(draws(2).equal(one));
}

TEST(GruClassifierTest, EachDropoutCanBeLeftOut) {
  const Batch batch = reviews().batch(iota(12));
  GruClassifierOptions none = small_options();
  none.dropout = none.word_dropout = 0;
  const auto changes = [&](const GruClassifierOptions& options) {
    const auto net = gru_net(0, options);
    const at::Tensor evaluated = logits(*net, batch);
    net->train();
    return !logits(*net, batch).equal(evaluated);
  };
  EXPECT_FALSE(changes(none));
  for (double GruClassifierOptions::*option :
       {&GruClassifierOptions::dropout, &GruClassifierOptions::word_dropout}) {
    GruClassifierOptions options = none;
    options.*option = 0.5;
    EXPECT_TRUE(changes(options));
  }
}

TEST(GruClassifierTest, GradientsReachEveryParameter) {
  const auto net = gru_net();
  net->train();
  const Batch batch = reviews().batch(iota(12));
  net->forward(batch.inputs[0], batch.mask).square().sum().backward();
  for (const auto& item : net->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_GT(item.value().grad().abs().max().item<float>(), 0) << item.key();
  }
}

TEST(GruClassifierTest, RefusesBadOptions) {
  const auto with = [](const std::function<void(GruClassifierOptions&)>& change) {
    return [change] {
      GruClassifierOptions options = small_options();
      change(options);
      GruClassifier(options, make_generator(0));
    };
  };
  using O = GruClassifierOptions;
  expect_refused({
      {"vocabulary", [] { GruClassifier({}, make_generator(0)); }, "vocabulary has to be >= 1"},
      {"classes", with([](O& o) { o.classes = 1; }), "classes has to be >= 2, but got 1"},
      {"embedding", with([](O& o) { o.embedding_size = 0; }), "embedding_size has to be >= 1"},
      {"hidden", with([](O& o) { o.hidden_size = -1; }), "hidden_size has to be >= 1, but got -1"},
      {"dropout 1", with([](O& o) { o.dropout = 1; }), "dropout has to be in [0, 1), but got 1"},
      {"dropout NaN", with([](O& o) { o.dropout = NAN; }), "dropout has to be in [0, 1)"},
      {"word dropout", with([](O& o) { o.word_dropout = -0.1; }), "word_dropout has to be in"},
  });
}

}  // namespace
}  // namespace diffmask
