#include "diffmask/optim/dual_ascent.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

using Form = DualAscentOptions::Form;

TEST(DualAscentTest, StepsByTheRelativeClippedViolation) {
  DualAscent dual(2, /*epsilon=*/0.1, {.initial = 5, .rate = 2, .clip = 1.5});
  dual.update(0, 0.12);  // violation 0.2
  EXPECT_NEAR(dual.multiplier(0), 5.4, 1e-12);
  dual.update(0, 0.05);  // -0.5
  EXPECT_NEAR(dual.multiplier(0), 4.4, 1e-12);
  dual.update(0, 100);  // clipped to 1.5
  EXPECT_NEAR(dual.multiplier(0), 7.4, 1e-12);
  EXPECT_EQ(dual.multiplier(1), 5) << "each depth has its own";
}

TEST(DualAscentTest, AddsAProportionalTermOfTheRunningMean) {
  DualAscent dual(1, 0.1, {.initial = 5, .rate = 2, .proportional = 10, .smoothing = 0.75});
  dual.update(0, 0.15);  // v = 0.25 * 0.5, I = 5.25
  EXPECT_NEAR(dual.multiplier(0), 5.25 + 1.25, 1e-12);
  dual.update(0, 0.0);  // v = 0.75 * 0.125 - 0.25, I = 5.25 + 2 v
  EXPECT_NEAR(dual.multiplier(0), 5.25 - 12 * 0.15625, 1e-12);
  for (int i = 0; i < 3; ++i) dual.update(0, 0.0);
  EXPECT_EQ(dual.multiplier(0), 0) << "clamped, while the integral is still above 0";
}

TEST(DualAscentTest, StaysInItsRange) {
  for (const Form form : {Form::clamp, Form::softplus}) {
    DualAscent dual(1, 0.1, {.form = form, .initial = 1, .rate = 3, .maximum = 20});
    for (int i = 0; i < 50; ++i) dual.update(0, 1.0);
    EXPECT_NEAR(dual.multiplier(0), 20, 1e-8);
    dual.update(0, 0.0);
    EXPECT_LT(dual.multiplier(0), 17.1) << "comes back from the maximum at once";
    for (int i = 0; i < 50; ++i) dual.update(0, 0.0);
    EXPECT_GE(dual.multiplier(0), 0);
    EXPECT_NEAR(dual.multiplier(0), 0, 1e-8);
    for (int i = 0; i < 20; ++i) dual.update(0, 1.0);
    EXPECT_GT(dual.multiplier(0), 1) << "and from the minimum";
  }
}

TEST(DualAscentTest, SoftplusBeginsAtItsInitialValue) {
  for (const double initial : {1e-6, 0.5, 5.0, 199.0}) {
    const DualAscent dual(1, 0.1, {.form = Form::softplus, .initial = initial});
    EXPECT_NEAR(dual.multiplier(0), initial, 1e-12 * (1 + initial));
  }
  DualAscent dual(1, 0.1, {.form = Form::softplus, .initial = 1});
  dual.update(0, 0.15);
  EXPECT_NEAR(dual.multiplier(0), std::log1p(std::exp(std::log(std::expm1(1.0)) + 0.5)), 1e-12);
}

// How far x overshoots 1 - eps in the problem below, from far off, with a quick multiplier.
double overshoot(double proportional) {
  DualAscent dual(1, 0.25, {.initial = 5, .rate = 0.2, .clip = 4, .proportional = proportional});
  double x = 0, largest = 0;
  for (int i = 0; i < 500; ++i) {
    x -= 0.1 * (x - dual.multiplier(0));
    dual.update(0, 1 - x);
    largest = std::max(largest, x);
  }
  EXPECT_NEAR(x, 0.75, 1e-3);
  return largest - 0.75;
}

TEST(DualAscentTest, TheProportionalTermDampsSwings) {
  EXPECT_LT(overshoot(1.0), 0.75 * overshoot(0.0));
}

// min_x x^2 / 2 subject to (1 - x) <= eps: x = 1 - eps, and stationarity gives lambda = x.
TEST(DualAscentTest, FindsTheMultiplierOfAKnownProblem) {
  constexpr double kEpsilon = 0.25;
  for (const Form form : {Form::clamp, Form::softplus}) {
    DualAscent dual(1, kEpsilon, {.form = form, .rate = 0.1});
    double x = 0;
    for (int i = 0; i < 2000; ++i) {
      x -= 0.1 * (x - dual.multiplier(0));
      dual.update(0, 1 - x);
    }
    EXPECT_NEAR(x, 0.75, 1e-6);
    EXPECT_NEAR(dual.multiplier(0), 0.75, 1e-6);
  }
}

TEST(DualAscentTest, RefusesBadInput) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto make = [](DualAscentOptions options, int64_t depths = 1, double epsilon = 0.1) {
    return [=] { DualAscent dual(depths, epsilon, options); };
  };
  EXPECT_NO_THROW(make({.initial = 0})());
  expect_refused({
      {"no depths", make({}, 0), "depths has to be >= 1"},
      {"epsilon 0", make({}, 1, 0), "epsilon has to be > 0, but got 0"},
      {"epsilon -1", make({}, 1, -1), "epsilon"},
      {"epsilon NaN", make({}, 1, kNan), "epsilon"},
      {"epsilon infinite", make({}, 1, kInfinity), "epsilon"},
      {"maximum 0", make({.maximum = 0}), "maximum has to be > 0"},
      {"initial -1", make({.initial = -1}), "initial has to be in [0, 200]"},
      {"initial beyond", make({.initial = 201}), "initial has to be in [0, 200], but got 201"},
      {"initial NaN", make({.initial = kNan}), "initial"},
      {"softplus of 0", make({.form = Form::softplus, .initial = 0}), "> 0 with softplus"},
      {"rate 0", make({.rate = 0}), "rate has to be > 0"},
      {"rate NaN", make({.rate = kNan}), "rate"},
      {"clip 0", make({.clip = 0}), "clip has to be > 0"},
      {"proportional -1", make({.proportional = -1}), "proportional has to be >= 0"},
      {"smoothing 1", make({.smoothing = 1}), "smoothing has to be in [0, 1), but got 1"},
      {"smoothing NaN", make({.smoothing = kNan}), "smoothing"},
  });
}

}  // namespace
}  // namespace diffmask
