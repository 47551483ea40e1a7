#include "diffmask/objective/penalty.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/bad_input.hpp"
#include "tests/finite_difference.hpp"

namespace diffmask {
namespace {

at::Tensor mask_of(std::vector<int> entries, int64_t rows) {
  return at::tensor(entries).view({rows, -1}).to(at::kBool);
}

TEST(MaskedMeanTest, IsTheMeanOfTheRowsMeans) {
  const at::Tensor values = at::tensor({1.0, 3.0, 100.0, 7.0, 100.0, 100.0}).view({2, 3});
  EXPECT_NEAR(masked_mean(values, mask_of({1, 1, 0, 1, 0, 0}, 2)).item<double>(), (2.0 + 7.0) / 2,
              1e-6);
  expect_refused({{"shape",
                   [&] {
                     masked_mean(values, mask_of({1, 1}, 1));
                   },
                   "mask has to be of shape (2, 3), but got (1, 2)"}});
}

TEST(PenaltyTest, KnownValues) {
  const at::Tensor keep = at::tensor({0.5, 0.25, 0.999}, at::kDouble).view({1, 3});
  const at::Tensor mask = mask_of({1, 1, 0}, 1);
  const auto value = [&](const Penalty& penalty) {
    return penalty(keep.log(), mask).item<double>();
  };
  EXPECT_NEAR(value(penalty::expected_l0({.scale = 2})), 2 * 0.375, 1e-12);
  EXPECT_NEAR(value(penalty::expected_l0({.scale = 2, .push = 0.1})),
              2 * 0.375 - 0.1 * std::log(3.0), 1e-12);
  EXPECT_NEAR(value(penalty::log_expected_l0({.scale = 2})), std::log(0.125), 1e-12);
  EXPECT_NEAR(value(penalty::log_odds({.scale = 2})), -std::log(3.0), 1e-12);
}

TEST(PenaltyTest, LogOddsAreLinearInTheLogitBetweenTheirLimits) {
  const Penalty penalty = penalty::log_odds({.scale = 0.3, .lower = -6, .upper = 8});
  const at::Tensor mask = mask_of({1}, 1);
  const auto gradient = [&](double logit) {
    const at::Tensor x = at::full({1, 1}, logit, at::kDouble).requires_grad_(true);
    const at::Tensor cost = penalty(at::log_sigmoid(x), mask);
    EXPECT_NEAR(cost.item<double>(), 0.3 * std::clamp(logit, -6.0, 8.0), 1e-9);
    return torch::autograd::grad({cost}, {x})[0].item<double>();
  };
  for (const double logit : {-5.9, -1.0, 0.0, 5.0, 7.9}) EXPECT_NEAR(gradient(logit), 0.3, 1e-9);
  for (const double logit : {-30.0, -6.1, 8.1, 12.0}) EXPECT_EQ(gradient(logit), 0);
}

TEST(PenaltyTest, FullyOpenAndFullyClosedStayFinite) {
  const at::Tensor mask = mask_of({1, 1, 1}, 1);
  for (const auto& [name, penalty] : penalty::ready()) {
    const at::Tensor x = at::tensor({0.0f, -1e-9f, -200.0f}).view({1, 3}).requires_grad_(true);
    const at::Tensor cost = penalty(x, mask);
    EXPECT_TRUE(std::isfinite(cost.item<float>()));
    EXPECT_TRUE(at::isfinite(torch::autograd::grad({cost}, {x})[0]).all().item<bool>());
  }
}

TEST(PenaltyTest, GradientsAgreeWithFiniteDifferences) {
  const at::Tensor point = -at::linspace(0.05, 4, 8, at::kDouble).view({2, 4});
  const at::Tensor mask = mask_of({1, 1, 1, 1, 1, 1, 0, 0}, 2);
  for (const auto& [name, penalty] : penalty::ready()) {
    expect_gradient([&penalty = penalty, &mask](const auto& x) { return penalty(x, mask); }, point);
  }
  const Penalty pushed = penalty::expected_l0({.push = 0.05});
  expect_gradient([&](const auto& x) { return pushed(x, mask); }, point);
  expect_gradient([&](const auto& x) { return masked_mean(x.square(), mask); }, point);
}

TEST(PenaltyTest, RefusesBadOptions) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto check = [](PenaltyOptions options) { return [=] { penalty::log_odds(options); }; };
  EXPECT_NO_THROW(check({})());
  expect_refused({
      {"scale 0", check({.scale = 0}), "penalty.scale has to be > 0, but got 0"},
      {"scale NaN", check({.scale = kNan}), "penalty.scale"},
      {"push -1", check({.push = -1}), "penalty.push has to be >= 0, but got -1"},
      {"push NaN", check({.push = kNan}), "penalty.push"},
      {"limits in reverse", check({.lower = 8, .upper = 8}),
       "penalty.lower has to be < penalty.upper"},
      {"lower NaN", check({.lower = kNan}), "penalty.lower"},
  });
}

}  // namespace
}  // namespace diffmask
