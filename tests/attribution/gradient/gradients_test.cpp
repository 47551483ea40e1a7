// Gradient, gradient x input, integrated gradients, and the other controls.
#include <gtest/gtest.h>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/attribution/gradient/integrated_gradients.hpp"
#include "tests/attribution/example_nets.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

using Rule = IntegratedGradientsOptions::Rule;

const at::Tensor kX = at::randn({3, 4, 5}, make_generator(1));

double largest_of(const at::Tensor& t) { return t.abs().max().item<double>(); }

TEST(LinearNetTest, EveryMethodGivesWeightTimesChange) {
  const at::Tensor w = at::randn({4, 5, 2}, make_generator(2));
  const auto model = net_of([w](const at::Tensor& x) {
    return at::tensordot(x, w, {1, 2}, {0, 1});
  });
  const at::Tensor baseline = at::randn({5}, make_generator(3));
  AttributionOptions options = at_input(fill::given({{"input", baseline}}));
  options.target = target::class_index(1);
  const at::Tensor features = w.select(2, 1) * (kX - baseline), scores = features.sum(2);
  const Batch batch = batch_of(kX);
  const auto expect = [&](const Attribution& found, bool has_features = true) {
    EXPECT_LT(largest_of(found.scores.select(2, 0) - scores), 1e-5);
    if (has_features) {
      EXPECT_LT(largest_of(found.features.at(0) - features), 1e-5);
    }
    EXPECT_TRUE(found.keep.equal(found.scores.gt(0)));
    EXPECT_TRUE(found.mask.equal(batch.mask));
  };
  expect(GradientTimesInput(model, options).attribute(batch));
  expect(LeaveOneOut(model, options).attribute(batch), /*has_features=*/false);
  for (const Rule rule : {Rule::gauss_legendre, Rule::trapezoid, Rule::left, Rule::middle,
                          Rule::right, Rule::random}) {
    const IntegratedGradients method(model, options,
                                     {.rule = rule, .steps = 3, .generator = make_generator(4)});
    const Attribution found = method.attribute(batch);
    expect(found);
    EXPECT_LT(largest_of(found.gap), 1e-4);
  }
  const at::Tensor saliency = Gradient(model, options).attribute(batch).features[0];
  EXPECT_LT(largest_of(saliency - w.select(2, 1)), 1e-6);
}

// y = sum x^3: the integral of 3 (a x)^2 x from 0 is x^3, that of each rule is known.
TEST(IntegratedGradientsTest, RulesAreWhatTheyAreCalled) {
  const auto model = net_of([](const at::Tensor& x) { return x.pow(3).sum({1, 2}); });
  AttributionOptions options = at_input();
  options.target = target::scalar;
  const std::vector<std::pair<Rule, double>> expected = {
      {Rule::gauss_legendre, 1},
      {Rule::trapezoid, 3 * (0.25 + 0.5) / 2},  // nodes 0, 1/2, 1
      {Rule::left, (0 + 1 + 4) / 9.0},          // 3 (k/3)^2 / 3
      {Rule::middle, (0.25 + 2.25 + 6.25) / 9.0},
      {Rule::right, (1 + 4 + 9) / 9.0},
  };
  for (const auto& [rule, factor] : expected) {
    const Attribution found =
        IntegratedGradients(model, options, {.rule = rule, .steps = 3, .tolerance = 0})
            .attribute(batch_of(kX));
    EXPECT_LT(largest_of(found.features[0] - factor * kX.pow(3)), 1e-5) << int(rule);
    const at::Tensor gap = (1 - factor) * kX.pow(3).sum({1, 2});
    EXPECT_LT(largest_of(found.gap.select(1, 0) - gap), 1e-4) << int(rule);
    EXPECT_EQ(found.passes, 3 + 3 + 9);  // recorded, at the baseline, along the path
  }
}

TEST(IntegratedGradientsTest, StepsGrowUntilTheGapIsSmall) {
  const auto model = smooth_net(4, 5, 3, 7);
  const Batch batch = batch_of(kX);
  const Attribution coarse =
      IntegratedGradients(model, at_input(), {.steps = 1, .tolerance = 0}).attribute(batch);
  const Attribution fine =
      IntegratedGradients(model, at_input(), {.steps = 1, .max_steps = 256}).attribute(batch);
  const Recording recording = model->record(batch.inputs);
  const at::Tensor y0 = recording.output();
  const at::Tensor change =
      target::predicted(y0, y0) -
      target::predicted(model->resume(recording, "input", at::zeros_like(kX)), y0);
  EXPECT_GT((coarse.gap.select(1, 0) / change).abs().min().item<double>(), 1e-3);
  EXPECT_LT((fine.gap.select(1, 0) / change).abs().max().item<double>(), 1e-3);
  EXPECT_LT(largest_of(fine.scores.sum(1).select(1, 0) - change) / largest_of(change), 1e-3);
}

TEST(IntegratedGradientsTest, BaselinesAreAveraged) {
  const auto model = smooth_net(4, 5, 3, 7);
  const auto attribute = [&](int64_t baselines, int64_t passes) {
    AttributionOptions options = at_input(fill::other_example(make_generator(5)));
    options.passes.max_batch = passes;
    return IntegratedGradients(model, options, {.baselines = baselines}).attribute(batch_of(kX));
  };
  EXPECT_GT(largest_of(attribute(1, 64).scores - attribute(20, 64).scores), 1e-2);
  EXPECT_LT(largest_of(attribute(4, 64).scores - attribute(4, 5).scores), 1e-5);
  EXPECT_LT(largest_of(attribute(20, 64).gap), 1e-2);
}

// y = sum a b at sites a and b, moved together: each gets half of it.
TEST(IntegratedGradientsTest, MovesSeveralSitesTogether) {
  auto module = std::make_shared<torch::nn::Module>();
  module->eval();
  const auto model = std::make_shared<TappedModel>(
      module,
      [](const Inputs& x, Tap& tap) {
        const at::Tensor a = tap("a", x[0]);
        return (a * tap("b", x[1])).sum({1, 2});
      },
      Inputs{kX, kX});
  Batch batch = batch_of(kX);
  batch.inputs.push_back(kX.flip(0));
  AttributionOptions options;
  options.target = target::scalar;
  const Attribution found =
      IntegratedGradients(model, options, {.steps = 4, .together = true}).attribute(batch);
  const at::Tensor half = (kX * kX.flip(0) / 2).sum(2);
  for (const int64_t depth : {0, 1}) {
    EXPECT_LT(largest_of(found.scores.select(2, depth) - half), 1e-5);
    EXPECT_LT(largest_of(found.gap.select(1, depth)), 1e-4);
  }
  const Attribution apart = IntegratedGradients(model, options, {.steps = 4}).attribute(batch);
  EXPECT_LT(largest_of(apart.scores.select(2, 0) - 2 * half), 1e-5);
}

TEST(ControlsTest, UniformAndRandom) {
  const auto model = smooth_net(4, 5, 3, 7);
  Batch batch = batch_of(kX);
  batch.mask[1][3].fill_(false);
  const Attribution uniform = Uniform(model, at_input()).attribute(batch);
  EXPECT_TRUE(uniform.scores.squeeze(2).equal(batch.mask.to(at::kFloat)));
  EXPECT_TRUE(uniform.keep.squeeze(2).equal(batch.mask));
  const auto random = [&](uint64_t seed) {
    return Random(model, make_generator(seed), at_input()).attribute(batch).scores;
  };
  EXPECT_TRUE(random(1).equal(random(1)));
  EXPECT_FALSE(random(1).equal(random(2)));
  EXPECT_EQ(random(1)[1][3][0].item<float>(), 0);
}

TEST(ControlsTest, AttentionIsTheLargestHeadsMeanOverQueries) {
  const at::Tensor weights = at::softmax(at::randn({2, 3, 4, 4}, make_generator(1)), -1);
  Batch batch{{weights}, at::ones({2, 4}, at::kBool), {}, {}};
  batch.mask[0][3].fill_(false);
  const auto model = net_of([](const at::Tensor& x) { return x.sum({1, 2}); });
  const at::Tensor scores = AttentionWeights(model, at_input()).attribute(batch).scores;
  const at::Tensor first = std::get<0>(weights[0].narrow(1, 0, 3).mean(1).max(0));
  EXPECT_LT(largest_of(scores[0].narrow(0, 0, 3).squeeze(1) - first.narrow(0, 0, 3)), 1e-6);
  EXPECT_LT(largest_of(scores[1].squeeze(1) - std::get<0>(weights[1].mean(1).max(0))), 1e-6);
}

TEST(GradientMethodsTest, RefuseBadInput) {
  const auto model = smooth_net(4, 5, 3, 7);
  const auto blind = net_of([](const at::Tensor& x) { return at::ones({x.size(0), 2}); });
  const Batch batch = batch_of(kX);
  const auto integrate = [&](IntegratedGradientsOptions own, AttributionOptions options) {
    return [=] { IntegratedGradients(model, options, own).attribute(batch); };
  };
  AttributionOptions ninth = at_input(), scalar = at_input(), unknown = at_input();
  ninth.target = target::class_index(9);
  scalar.target = target::scalar;
  unknown.sites = {"inptu"};
  AttributionOptions image = at_input();
  image.positions = {{Positions::Layout::image, 1}};
  const at::Tensor wrong = at::zeros({3});
  Batch longer = batch;
  longer.mask = at::ones({3, 6}, at::kBool);
  expect_refused({
      {"class 9 of 3", integrate({}, ninth), "target has to be in 0..2"},
      {"no target", integrate({}, scalar), "output has to be of shape (B) or (B, 1)"},
      {"site", integrate({}, unknown), "'inptu' (nearest: input"},
      {"given baseline", integrate({}, at_input(fill::given({{"input", wrong}}))),
       "fill of 'input' has to be of a shape that broadcasts to (3, 4, 5), but got (3)"},
      {"other baseline", integrate({}, at_input([=](const auto&, const auto&) { return wrong; })),
       "fill of 'input' has to be of a shape that broadcasts to (3, 4, 5), but got (3)"},
      {"no steps", integrate({.steps = 0}, at_input()), "steps has to be >= 1"},
      {"one trapezoid", integrate({.rule = Rule::trapezoid, .steps = 1}, at_input()), ">= 2"},
      {"no generator", integrate({.rule = Rule::random}, at_input()), "generator has to be given"},
      {"no baselines", integrate({.baselines = 0}, at_input()), "baselines has to be >= 1"},
      {"layout", integrate({}, image), "(B, C, H, W)"},
      {"positions", [&] { Gradient(model, at_input()).attribute(longer); },
       "state at 'input' has to be of 6 positions, as batch.mask, but got 4"},
      {"independent", [&] { Gradient(blind, at_input()).attribute(batch); },
       "site has to be one that the output depends on"},
      {"no attention", [&] { AttentionWeights(model, at_input()).attribute(batch); },
       "attention's weights"},
      {"no model", [] { Gradient(nullptr); }, "model has to be a model"},
  });
  AttributionOptions zeros = at_input();
  zeros.zero_where_independent = true;
  EXPECT_EQ(largest_of(Gradient(blind, zeros).attribute(batch).scores), 0);
  EXPECT_EQ(largest_of(IntegratedGradients(blind, zeros).attribute(batch).scores), 0);
}

}  // namespace
}  // namespace diffmask
