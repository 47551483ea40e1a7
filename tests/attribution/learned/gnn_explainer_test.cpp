#include "diffmask/attribution/learned/gnn_explainer.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/attribution/example_nets.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

double largest(const at::Tensor& t) { return t.abs().max().item<double>(); }

// Two classes with logits (4 sum_t a_t h_t, 0): positions with a_t = 1 are needed, others are not.
std::shared_ptr<const FrozenModel> weighing(const std::vector<double>& a) {
  return net_of([w = at::tensor(a, at::kFloat)](const at::Tensor& x) {
    const at::Tensor y = 4 * (x.squeeze(2) * w).sum(1);
    return at::stack({y, at::zeros_like(y)}, 1);
  });
}

// Two positions are needed: at the minimum 4 / (1 + exp(8 z)) = size.
TEST(GnnExplainerTest, KeepsWhatThePredictionNeeds) {
  const auto model = weighing({1, 0, 1, 0, -1});
  const Batch batch = batch_of(at::ones({2, 5, 1}));
  const Attribution found =
      GnnExplainer(model, at_input(), {.steps = 200, .size = 0.05}).attribute(batch);
  for (int64_t row = 0; row < 2; ++row) {
    const at::Tensor scores = found.scores[row].squeeze(1);
    for (const int64_t needed : {0, 2}) {
      EXPECT_NEAR(scores[needed].item<double>(), std::log(4 / 0.05 - 1) / 8, 1e-2) << needed;
    }
    for (const int64_t other : {1, 3, 4}) EXPECT_LT(scores[other].item<double>(), 0.1) << other;
  }
  EXPECT_TRUE(found.keep.equal(found.scores.gt(0.5)));
  EXPECT_EQ(found.passes, 2 + 200 * 2);
}

// One position, y = h: at the minimum of log(1 + exp(-4 z)) + size z the derivative is 0.
TEST(GnnExplainerTest, FindsTheMinimum) {
  const auto model = weighing({1});
  const GnnExplainer method(model, at_input(),
                            {.steps = 2000, .rate = 0.02, .size = 1.0, .entropy = 0});
  const double z = method.attribute(batch_of(at::ones({1, 1, 1}))).scores.item<double>();
  // 4 / (1 + exp(4 z)) = 1.
  EXPECT_NEAR(z, std::log(3.0) / 4, 1e-4);
}

// On few positions the published start and weights keep all: the entropy's gradient, a mean's,
// outweighs the size's, a sum's, and pushes a mask that starts above 1/2 to 1.
TEST(GnnExplainerTest, PublishedWeightsKeepAllOfASmallGraph) {
  const auto model = weighing({1, 0, 1, 0, -1});
  const Batch batch = batch_of(at::ones({1, 5, 1}));
  const GnnExplainer published(model, at_input(),
                               {.steps = 100, .initial = 1.0, .size = 0.005, .entropy = 1.0});
  EXPECT_TRUE(published.attribute(batch).keep.all().item<bool>());
}

TEST(GnnExplainerTest, ExamplesAndPaddingAreApart) {
  const auto model = smooth_net(4, 5, 3, 7);
  Batch batch = batch_of(at::randn({3, 4, 5}, make_generator(1)));
  batch.mask[1][3].fill_(false);
  const auto scores = [&](const Batch& of, int64_t rows_a_pass) {
    AttributionOptions options = at_input();
    options.passes.max_batch = rows_a_pass;
    return GnnExplainer(model, options, {.steps = 20, .initial = 1.0}).attribute(of).scores;
  };
  const at::Tensor together = scores(batch, 64);
  EXPECT_GT(together.std().item<double>(), 1e-3) << "scores all alike test nothing";
  EXPECT_LT(largest(scores(batch, 2) - together), 1e-5);
  EXPECT_EQ(together[1][3].item<double>(), 0);
  Batch second = batch_of(batch.inputs[0].narrow(0, 1, 1));
  second.mask = batch.mask.narrow(0, 1, 1);
  EXPECT_LT(largest(scores(second, 64)[0] - together[1]), 1e-5);
}

TEST(GnnExplainerTest, GroupsShareALogit) {
  const auto model = smooth_net(4, 5, 3, 7);
  Batch batch = batch_of(at::randn({2, 4, 5}, make_generator(1)));
  const auto groups = std::vector<int64_t>{0, 1, 0, 2, 0, 1, 2, 2};
  batch.groups = at::tensor(groups, at::kLong).view({2, 4});
  const at::Tensor scores = GnnExplainer(model, at_input(), {.steps = 20, .initial = 1.0})
                                .attribute(batch)
                                .scores.squeeze(2);
  EXPECT_EQ(scores[0][0].item<float>(), scores[0][2].item<float>());
  EXPECT_EQ(scores[1][2].item<float>(), scores[1][3].item<float>());
  EXPECT_NE(scores[0][0].item<float>(), scores[0][1].item<float>());
}

TEST(GnnExplainerTest, MasksFeaturesToo) {
  auto module = std::make_shared<torch::nn::Module>();
  module->eval();
  const at::Tensor x = at::ones({2, 3, 4});
  // Positions of site "edge" weigh the rows of site "features", of which feature 2 alone counts.
  const auto model = std::make_shared<TappedModel>(
      module,
      [](const Inputs& in, Tap& tap) {
        const at::Tensor h = tap("features", in[0]);
        const at::Tensor a = tap("edge", at::ones({h.size(0), 3, 1}));
        const at::Tensor y = 4 * (a.squeeze(2) * h.select(2, 2)).sum(1);
        return at::stack({y, at::zeros_like(y)}, 1);
      },
      Inputs{x});
  AttributionOptions options;
  options.sites = {"edge"};
  const GnnExplainer method(model, options, {.steps = 200, .features = "features"});
  const at::Tensor u = method.feature_masks(batch_of(x)).squeeze(2);
  ASSERT_EQ(u.sizes(), at::IntArrayRef({2, 4}));
  for (const int64_t feature : {0, 1, 3}) EXPECT_LT(u[0][feature].item<double>(), 0.1);
  EXPECT_GT((u[0][2] - u[0][0]).item<double>(), 0.1);
  const GnnExplainer hardly_moved(
      model, options, {.steps = 1, .rate = 1e-6, .features = "features", .feature_initial = 2.0});
  EXPECT_LT(largest(hardly_moved.feature_masks(batch_of(x)) - 1 / (1 + std::exp(-2.0))), 1e-5);
  EXPECT_TRUE(u[0].equal(u[1]));
}

TEST(GnnExplainerTest, RefusesBadInput) {
  const auto model = smooth_net(4, 5, 3, 7);
  const auto make = [&](const GnnExplainerOptions& own) {
    return [&, own] { GnnExplainer(model, at_input(), own); };
  };
  const auto scalar = net_of([](const at::Tensor& x) { return x.sum({1, 2}); });
  const Batch batch = batch_of(at::ones({2, 4, 5}));
  expect_refused({
      {"steps", make({.steps = 0}), "steps has to be >= 1, but got 0"},
      {"rate", make({.rate = 0}), "rate has to be > 0, but got 0"},
      {"initial", make({.initial = NAN}), "initial has to be finite"},
      {"features' initial", make({.feature_initial = NAN}), "feature_initial has to be finite"},
      {"size", make({.size = -1}), "size has to be >= 0, but got -1"},
      {"entropy", make({.entropy = INFINITY}), "entropy has to be >= 0"},
      {"feature size", make({.feature_size = -1}), "feature_size has to be >= 0"},
      {"feature entropy", make({.feature_entropy = NAN}), "feature_entropy has to be >= 0"},
      {"features' site", make({.features = "imput"}), "'imput' (nearest: input"},
      {"the same site", make({.features = "input"}), "features has to be another site"},
      {"no model", [] { GnnExplainer method(nullptr); }, "model has to be"},
      {"no features", [&] { GnnExplainer(model, at_input()).feature_masks(batch); },
       "features has to be a site, but got none"},
      {"no classes", [&] { GnnExplainer(scalar, at_input()).attribute(batch); },
       "output has to be"},
  });
}

}  // namespace
}  // namespace diffmask
