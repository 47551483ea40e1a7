#include "diffmask/metrics/faithfulness.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "tests/attribution/example_nets.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

// One logit, the sum over positions, so that every value can be worked out by hand:
// p = sigmoid(sum of the x that are there), and 1 - p for examples whose sum is below 0.
std::shared_ptr<StagedModel> sum_net() {
  return net_of([](const at::Tensor& x) { return x.sum(at::IntArrayRef({1, 2})); });
}

const std::vector<double> kX = {0.5, -1.0, 2.0, 0.25};  // sum 1.75: class 1

at::Tensor input() {
  const at::Tensor x = at::tensor(kX, at::kDouble).view({1, 4, 1});
  return at::cat({x, -x});
}

at::Tensor column(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

double sigmoid(double y) { return 1 / (1 + std::exp(-y)); }

void expect_both(const at::Tensor& values, double expected) {
  ASSERT_EQ(values.sizes(), at::IntArrayRef({2}));
  for (int i = 0; i < 2; ++i) EXPECT_NEAR(values[i].item<double>(), expected, 1e-12) << i;
}

FaithfulnessOptions options_of(const std::vector<double>& bins = {0.25, 0.5}) {
  FaithfulnessOptions options;
  options.site = "input";
  options.bins = bins;
  options.steps = 4;
  return options;
}

// Order of the scores: positions 2, 0, 1, 3.
const at::Tensor kScores = at::tensor({0.7, 0.2, 0.9, 0.1}, at::kDouble).expand({2, 4});

TEST(FaithfulnessTest, IsWhatTheDefinitionsGiveByHand) {
  const auto model = sum_net();
  FaithfulnessMeter meter(*model, batch_of(input()), options_of());
  const Faithfulness result = meter.measure(kScores);
  const double p = sigmoid(1.75);
  const std::vector<double> without = {p, sigmoid(-0.25), sigmoid(-0.75), sigmoid(0.25), 0.5};
  const std::vector<double> alone = {0.5, sigmoid(2), sigmoid(2.5), sigmoid(1.5), p};
  expect_both(result.comprehensiveness, (2 * p - without[1] - without[2]) / 2);
  expect_both(result.sufficiency, (2 * p - alone[1] - alone[2]) / 2);
  expect_both(result.log_odds, (std::log(without[1] / p) + std::log(without[2] / p)) / 2);
  for (int row = 0; row < 2; ++row) {
    EXPECT_TRUE(at::allclose(result.deletion[row], column(without), 0, 1e-12));
    EXPECT_TRUE(at::allclose(result.insertion[row], column(alone), 0, 1e-12));
  }
  const auto area = [](const std::vector<double>& y) {
    return (y[0] / 2 + y[1] + y[2] + y[3] + y[4] / 2) / 4;
  };
  expect_both(result.deletion_auc, area(without));
  expect_both(result.insertion_auc, area(alone));
  // Bins are points of the curves here: five counts each way for each of two examples.
  EXPECT_EQ(meter.passes(), 2 + 2 * 2 * 5);
}

// One bin of four positions: k / n, not the share, is where a curve's points lie.
TEST(FaithfulnessTest, CurvesAreOverTheUnitsThatThereAre) {
  const auto model = sum_net();
  FaithfulnessOptions options = options_of();
  options.steps = 100;
  FaithfulnessMeter fine(*model, batch_of(input()), options);
  options.steps = 4;
  FaithfulnessMeter coarse(*model, batch_of(input()), options);
  const at::Tensor a = fine.measure(kScores).deletion_auc;
  EXPECT_TRUE(at::allclose(a, coarse.measure(kScores).deletion_auc, 0, 1e-12)) << a;
}

TEST(FaithfulnessTest, IsTheSameInChunksAndAtAHiddenSite) {
  const auto model = smooth_net(5, 3, 3, 2);
  const at::Tensor x = at::randn({3, 5, 3}, make_generator(3));
  const at::Tensor scores = at::randn({3, 5}, make_generator(4));
  FaithfulnessOptions options = options_of({0.2, 0.4, 1});
  FaithfulnessMeter whole(*model, batch_of(x), options);
  const Faithfulness expected = whole.measure(scores);
  options.passes.max_batch = 2;
  options.site = "copy";
  FaithfulnessMeter cut(*model, batch_of(x), options);
  const Faithfulness result = cut.measure(scores);
  EXPECT_TRUE(at::allclose(result.comprehensiveness, expected.comprehensiveness, 0, 1e-6));
  EXPECT_TRUE(at::allclose(result.insertion, expected.insertion, 0, 1e-6));
}

// A group's positions go together and count as one; positions of no group stay.
TEST(FaithfulnessTest, TakesGroupsAsUnits) {
  const auto model = sum_net();
  Batch batch = batch_of(input());
  batch.groups = torch::tensor({{0, 1, 1, -1}, {0, 1, 1, -1}}, at::kLong);
  FaithfulnessMeter meter(*model, batch, options_of({0.5}));
  const at::Tensor scores = at::tensor({0.3, 0.1, 0.9, 5.0}, at::kDouble).expand({2, 4});
  const Faithfulness result = meter.measure(scores);  // the group's mean is 0.5
  expect_both(result.comprehensiveness, sigmoid(1.75) - sigmoid(0.75));
  expect_both(result.sufficiency, sigmoid(1.75) - sigmoid(1.25));
  const auto [keep, tied] = meter.top(scores, 0.5);
  EXPECT_TRUE(keep.equal(torch::tensor({{false, true, true, false}}).expand({2, 4}))) << keep;
  EXPECT_FALSE(tied.any().item<bool>());
  expect_both(meter.apply(keep).kept, 0.5);
}

TEST(FaithfulnessTest, AppliesAMask) {
  const auto model = sum_net();
  FaithfulnessMeter meter(*model, batch_of(input()), options_of());
  const MaskEffect effect = meter.apply(torch::tensor({{false, true, false, true}}).expand({2, 4}));
  const double p = sigmoid(1.75), q = sigmoid(-0.75), without = sigmoid(2.5);
  expect_both(effect.kept, 0.5);
  expect_both(effect.divergence, p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q)));
  expect_both(effect.sufficiency, p - q);
  expect_both(effect.comprehensiveness, p - without);
  EXPECT_FALSE(effect.agrees.any().item<bool>());
  EXPECT_TRUE(meter.apply(at::ones({2, 4}, at::kBool)).agrees.all().item<bool>());
}

TEST(FaithfulnessTest, WithoutACriterionThereIsNoDecision) {
  const auto model = sum_net();
  FaithfulnessOptions options = options_of();
  FaithfulnessMeter usual(*model, batch_of(input()), options);
  options.criterion = nullptr;
  FaithfulnessMeter meter(*model, batch_of(input()), options);
  const at::Tensor keep = kScores > 0.5;
  const MaskEffect effect = meter.apply(keep);
  EXPECT_FALSE(effect.agrees.defined());
  EXPECT_TRUE(effect.divergence.equal(usual.apply(keep).divergence));
}

TEST(FaithfulnessTest, FillsByWhatItIsTold) {
  const auto model = sum_net();
  FaithfulnessOptions options = options_of({0.25});
  options.fill = fill::given({{"input", at::full({1}, 3.0, at::kDouble)}});
  FaithfulnessMeter given(*model, batch_of(input()), options);
  EXPECT_NEAR(given.measure(kScores).comprehensiveness[0].item<double>(),
              sigmoid(1.75) - sigmoid(2.75), 1e-12);
  // Two examples: the other one's state.
  options.fill = fill::other_example(make_generator(1));
  FaithfulnessMeter other(*model, batch_of(input()), options);
  expect_both(other.measure(kScores).comprehensiveness, sigmoid(1.75) - sigmoid(-2.25));
}

// dy = I . x exactly, so infidelity is E[(I . (s - x))^2].
TEST(FaithfulnessTest, InfidelityIsTheSquaredErrorOfTheScores) {
  const auto model = sum_net();
  FaithfulnessMeter meter(*model, batch_of(input()), options_of());
  const at::Tensor changes = at::randn({3, 2, 4, 1}, make_generator(5), at::kDouble);
  const at::Tensor sign = column({1, -1}).view({2, 1, 1});
  const at::Tensor gradient = sign.expand({2, 4, 1});  // of what speaks for the prediction
  EXPECT_LT(meter.infidelity(gradient, changes).max().item<double>(), 1e-20);
  EXPECT_TRUE(at::allclose(meter.infidelity(3 * gradient, changes),
                           4 * changes.sum(2).square().mean(0).squeeze(1)));
  EXPECT_LT(meter.infidelity(3 * gradient, changes, /*scaled=*/true).max().item<double>(), 1e-20);
}

TEST(FaithfulnessTest, SubsetInfidelityIsZeroOfAdditiveScores) {
  const auto model = sum_net();
  FaithfulnessMeter meter(*model, batch_of(input()), options_of());
  const at::Tensor scores = column(kX).expand({2, 4});  // both examples: signs cancel
  const at::Tensor sets = meter.random_subsets(16, make_generator(6));
  EXPECT_EQ(sets.sizes(), at::IntArrayRef({16, 2, 4}));
  EXPECT_LT(meter.subset_infidelity(scores, sets).max().item<double>(), 1e-20);
  EXPECT_LT(meter.subset_infidelity(7 * scores, sets, true).max().item<double>(), 1e-20);
  EXPECT_GT(meter.subset_infidelity(at::ones({2, 4}), sets, true).min().item<double>(), 0.1);
}

TEST(FaithfulnessTest, RefusesBadInput) {
  const auto model = sum_net();
  const Batch batch = batch_of(input());
  const auto make = [&](const std::function<void(FaithfulnessOptions&)>& change) {
    FaithfulnessOptions options = options_of();
    change(options);
    FaithfulnessMeter(*model, batch, options);
  };
  FaithfulnessMeter meter(*model, batch, options_of());
  expect_refused({
      {"site", [&] { make([](auto& o) { o.site = "inptu"; }); }, "nearest: input"},
      {"no bins", [&] { make([](auto& o) { o.bins = {}; }); }, "bins has to be at least one"},
      {"bins", [&] { make([](auto& o) { o.bins = {0}; }); }, "bins has to be in (0, 1], but got 0"},
      {"steps", [&] { make([](auto& o) { o.steps = 0; }); }, "steps has to be >= 1"},
      {"fill", [&] { make([](auto& o) { o.fill = nullptr; }); }, "fill has to be a function"},
      {"scores",
       [&] {
         meter.measure(at::ones({2, 3}));
       },
       "scores"},
      {"NaN",
       [&] {
         meter.measure(at::full({2, 4}, NAN));
       },
       "scores"},
      {"keep",
       [&] {
         meter.apply(at::ones({2, 4}));
       },
       "keep"},
      {"share", [&] { meter.top(kScores, 2); }, "share has to be in [0, 1]"},
      {"features", [&] { meter.infidelity(kScores, kScores); }, "features"},
      {"perturbations", [&] { meter.infidelity(input(), input()); }, "perturbations"},
      {"subsets",
       [&] {
         meter.subset_infidelity(kScores, at::ones({2, 4}, at::kBool));
       },
       "keep"},
      {"generator", [&] { meter.random_subsets(1, {}); }, "generator has to be given"},
  });
}

}  // namespace
}  // namespace diffmask
