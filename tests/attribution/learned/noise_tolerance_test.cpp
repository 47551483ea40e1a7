#include "diffmask/attribution/learned/noise_tolerance.hpp"

#include <gtest/gtest.h>

#include "tests/attribution/example_nets.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

const at::Tensor kX = at::randn({3, 4, 2}, make_generator(1));

// What a model of one number needs; noise tolerance itself has no target.
AttributionOptions scalar() {
  AttributionOptions options = at_input();
  options.target = target::scalar;
  return options;
}

// y = sum_t w_t (first feature of t): with D = (y - y~)^2 its mean is sum_t w_t^2 sigma_t^2, and
// the best sigma is known, sigma_t = sqrt(lambda / 2) / |w_t|.
std::shared_ptr<StagedModel> weighted(const at::Tensor& w) {
  return net_of([w](const at::Tensor& x) { return (x.select(2, 0) * w).sum(1); });
}

TEST(NoiseToleranceTest, FindsTheSigmaThatIsKnown) {
  const at::Tensor w = at::tensor({1.0, 2.0, 4.0, 8.0});
  NoiseToleranceOptions own;
  own.draws = 200;  // 800 squares of noise a sigma near the end: within some percent
  own.rate = 0.05;
  const Attribution found = NoiseTolerance(weighted(w), scalar(), own).attribute(batch_of(kX));
  const at::Tensor expected = w / std::sqrt(own.lambda / 2);
  EXPECT_TRUE(
      at::allclose(found.scores.select(2, 0), expected.expand({3, 4}).to(at::kFloat), 0.15, 0))
      << found.scores.squeeze(2) << expected;
  EXPECT_TRUE(found.keep.select(2, 0).equal(at::tensor({0, 0, 1, 1}).gt(0).expand({3, 4})));
  EXPECT_EQ(found.passes, 3 * (1 + own.steps * own.draws));
}

TEST(NoiseToleranceTest, WhatIsNotReadBearsTheMost) {
  const at::Tensor w = at::tensor({0.0, 3.0, 0.0, 3.0});
  NoiseToleranceOptions own;
  own.largest = 50;
  Batch batch = batch_of(kX);
  batch.mask = batch.mask.clone();
  batch.mask[1][3].fill_(false);
  const at::Tensor scores =
      NoiseTolerance(weighted(w), scalar(), own).attribute(batch).scores.select(2, 0);
  EXPECT_NEAR(scores.select(1, 0).max().item<double>(), 1.0 / 50, 1e-5);
  EXPECT_GT(scores.select(1, 1).min().item<double>(), 5.0);
  EXPECT_EQ(scores[1][3].item<float>(), 0);
}

TEST(NoiseToleranceTest, AnExamplesNoiseIsItsOwn) {
  // The first example is a thousand times as sensitive: a mean over the batch would drown the
  // others.
  const auto model = net_of([](const at::Tensor& x) {
    const at::Tensor factor = at::ones({x.size(0)});
    factor[0] = 1000;
    return factor * x.select(2, 0).select(1, 2);
  });
  NoiseToleranceOptions own;
  own.draws = 50;
  const at::Tensor scores =
      NoiseTolerance(model, scalar(), own).attribute(batch_of(kX)).scores.select(2, 0);
  const double expected = 1 / std::sqrt(own.lambda / 2);
  EXPECT_NEAR(scores[1][2].item<double>() / expected, 1, 0.3);
  EXPECT_NEAR(scores[2][2].item<double>() / expected, 1, 0.3);
  // Adam has not come all the way to 1000 times in these steps.
  EXPECT_GT(scores[0][2].item<double>(), 20 * expected);
}

TEST(NoiseToleranceTest, SameSeedSameBits) {
  const auto model = smooth_net(4, 2, 3, 7);
  const auto scores = [&](NoiseToleranceOptions own, int64_t rows = 64) {
    AttributionOptions options = at_input();
    options.passes.max_batch = rows;
    return NoiseTolerance(model, options, own).attribute(batch_of(kX)).scores;
  };
  NoiseToleranceOptions own, other, published = NoiseToleranceOptions::published();
  own.steps = other.steps = 5;
  other.seed = 1;
  EXPECT_TRUE(scores(own).equal(scores(own)));
  EXPECT_FALSE(scores(own).equal(scores(other)));
  EXPECT_TRUE(at::allclose(scores(own), scores(own, 7), 1e-4, 0));
  EXPECT_GT(scores(published).min().item<double>(), 0);
}

TEST(NoiseToleranceTest, GroupsShareTheirNoise) {
  Batch batch = batch_of(kX);
  batch.groups = at::tensor({0, 0, 1, -1}, at::kLong).expand({3, 4}).contiguous();
  const Attribution found =
      NoiseTolerance(weighted(at::tensor({0.5, 4.0, 2.0, 3.0})), scalar()).attribute(batch);
  const at::Tensor scores = found.scores.select(2, 0);
  EXPECT_TRUE(scores.select(1, 0).equal(scores.select(1, 1)));
  EXPECT_EQ(scores.select(1, 3).abs().max().item<float>(), 0);
  EXPECT_TRUE(found.keep.select(2, 0).select(1, 3).all().item<bool>());
}

TEST(NoiseToleranceTest, RefusesBadInput) {
  const auto model = smooth_net(4, 2, 3, 7);
  const auto with = [&](const std::function<void(NoiseToleranceOptions&)>& change) {
    return [&, change] {
      NoiseToleranceOptions own;
      change(own);
      NoiseTolerance(model, at_input(), own).attribute(batch_of(kX));
    };
  };
  const auto blind = net_of([](const at::Tensor& x) { return at::ones({x.size(0), 2}); });
  expect_refused({
      {"lambda", with([](auto& own) { own.lambda = 0; }), "lambda has to be > 0"},
      {"steps", with([](auto& own) { own.steps = 0; }), "steps has to be >= 1"},
      {"draws", with([](auto& own) { own.draws = -1; }), "draws has to be >= 1"},
      {"rate", with([](auto& own) { own.rate = 0; }), "rate has to be > 0"},
      {"initial", with([](auto& own) { own.initial = 1e3; }), "initial has to be in [0.0001, 100]"},
      {"smallest", with([](auto& own) { own.smallest = 0; }), "smallest has to be > 0"},
      {"divergence", with([](auto& own) { own.divergence = nullptr; }), "divergence has to be"},
      {"its shape", with([](auto& own) {
         own.divergence = [](const at::Tensor&, const at::Tensor& y) { return y.sum(); };
       }),
       "divergence at 'input' has to be of shape"},
      {"independent", [&] { NoiseTolerance(blind, at_input()).attribute(batch_of(kX)); },
       "site has to be one that the output depends on"},
  });
  AttributionOptions zeros = at_input();
  zeros.zero_where_independent = true;
  const Attribution found = NoiseTolerance(blind, zeros).attribute(batch_of(kX));
  EXPECT_LT(found.scores.max().item<double>(), 0.1);
}

}  // namespace
}  // namespace diffmask
