// REINFORCE against enumeration: all 2^8 masks of 8 positions.
#include "diffmask/objective/reinforce.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/core/random.hpp"
#include "diffmask/gate/bernoulli.hpp"
#include "diffmask/objective/lagrangian.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

constexpr int64_t kPositions = 8, kMasks = 256;
constexpr double kLambda = 7.0, kEpsilon = 0.05;

// Every mask, a D that is far from linear in it, and a logit a position.
class ReinforceTest : public testing::Test {
 protected:
  ReinforceTest() {
    const at::Tensor bits = at::arange(kMasks, at::kLong).unsqueeze(1);
    masks_ = at::bitwise_and(bits, at::pow(2, at::arange(kPositions, at::kLong)).unsqueeze(0))
                 .ne(0)
                 .to(at::kDouble);
    const at::Tensor weights = at::randn({kPositions}, make_generator(1), at::kDouble);
    divergence_ = (masks_.matmul(weights) - weights.sum()).square() *
                  (1 + masks_.select(1, 2) * masks_.select(1, 5));
    logits_ = at::randn({kPositions}, make_generator(2), at::kDouble).requires_grad_(true);
  }

  at::Tensor log_prob() const { return Bernoulli().log_prob(masks_, logits_).sum(1); }

  at::Tensor gradient(const at::Tensor& loss) const {
    return torch::autograd::grad({loss}, {logits_})[0];
  }

  // Of lambda (E[D] - eps), by enumeration.
  at::Tensor exact() const {
    return gradient(kLambda * ((log_prob().exp() * divergence_).sum() - kEpsilon));
  }

  // Each mask's estimate, beside how likely it is. Shape: (256, 8), (256).
  std::pair<at::Tensor, at::Tensor> estimates(double control) const {
    const at::Tensor cost = kLambda * (divergence_ - kEpsilon),
                     c = at::full({1}, control, at::kDouble);
    std::vector<at::Tensor> rows;
    for (int64_t mask = 0; mask < kMasks; ++mask) {
      rows.push_back(
          gradient(score_function(cost.narrow(0, mask, 1), c, log_prob().narrow(0, mask, 1))));
    }
    return {at::stack(rows), log_prob().exp().detach()};
  }

  at::Tensor masks_, divergence_, logits_;
};

TEST_F(ReinforceTest, ItsMeanIsTheGradientWhateverTheControlVariate) {
  EXPECT_NEAR(log_prob().exp().sum().item<double>(), 1, 1e-12);
  for (const double control : {0.0, 3.0, -20.0}) {
    const auto [rows, probability] = estimates(control);
    const at::Tensor mean = (rows * probability.unsqueeze(1)).sum(0);
    EXPECT_TRUE(at::allclose(mean, exact(), 1e-10, 1e-10)) << control << mean << exact();
  }
  EXPECT_GT(exact().abs().min().item<double>(), 1e-3);
}

TEST_F(ReinforceTest, AControlVariateNearTheMeanCostTakesVarianceAway) {
  const auto variance = [&](double control) {
    const auto [rows, probability] = estimates(control);
    return ((rows - exact()).square() * probability.unsqueeze(1)).sum().item<double>();
  };
  const double mean_cost =
      (kLambda * ((log_prob().exp() * divergence_).sum() - kEpsilon)).item<double>();
  EXPECT_LT(variance(mean_cost), 0.8 * variance(0));
}

TEST_F(ReinforceTest, GradientsFlowToTheLogProbabilityAlone) {
  const at::Tensor cost = at::ones({2}, at::kDouble).requires_grad_(true);
  const at::Tensor log_q = at::zeros({2}, at::kDouble).requires_grad_(true);
  const at::Tensor loss = score_function(cost, at::zeros({2}, at::kDouble), log_q);
  const auto gradients = torch::autograd::grad({loss}, {cost, log_q}, {}, false, false, true);
  EXPECT_FALSE(gradients[0].defined());
  EXPECT_TRUE(gradients[1].equal(at::full({2}, 0.5, at::kDouble)));
}

TEST(ControlVariateTest, IsTheRunningMeanOfEarlierDraws) {
  const at::Tensor first = at::tensor({1.0, 3.0}), second = at::tensor({5.0, 7.0});
  ControlVariate shared(0, {.decay = 0.75});
  EXPECT_TRUE(shared.values({}, first).equal(at::zeros({2})));
  shared.update({}, first);
  EXPECT_TRUE(shared.values({}, first).equal(at::full({2}, 0.5)));
  shared.update({}, second);
  EXPECT_TRUE(shared.values({}, first).equal(at::full({2}, 0.75 * 0.5 + 0.25 * 6)));
  ControlVariate own(4, {.decay = 0.75});
  own.update(at::tensor({3, 1}, at::kLong), first);
  EXPECT_TRUE(own.values(at::tensor({0, 1}, at::kLong), first).equal(at::tensor({0.0f, 0.75f})));
  EXPECT_TRUE(own.values(at::tensor({3, 2}, at::kLong), first).equal(at::tensor({0.25f, 0.0f})));
}

TEST(ControlVariateTest, RefusesBadInput) {
  const at::Tensor two = at::ones({2}), three = at::ones({3});
  expect_refused({
      {"decay", [] { ControlVariate(0, {.decay = 1.5}); }, "control.decay has to be in [0, 1]"},
      {"examples", [] { ControlVariate(-1, {}); }, "examples has to be >= 0"},
      {"cost", [&] { score_function(three, two, two); }, "cost has to be of shape (2)"},
      {"control", [&] { score_function(two, three, two); }, "control has to be of shape (2)"},
  });
}

}  // namespace
}  // namespace diffmask
