#include "diffmask/gate/hard_concrete.hpp"

#include <gtest/gtest.h>

#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"
#include "tests/finite_difference.hpp"

namespace diffmask {
namespace {

const std::vector<std::pair<std::string, HardConcreteOptions>>& option_sets() {
  static const std::vector<std::pair<std::string, HardConcreteOptions>> sets = {
      {"De Cao et al. 2020", {}},
      {"Louizos et al. 2018", {.tau = 2.0 / 3.0, .lower = -0.1, .upper = 1.1}},
      {"GraphMask", {.tau = 1.0 / 3.0, .lower = -0.2, .upper = 1.2, .location_bias = 3.0}},
      {"default with r = 1.1", {.upper = 1.1}},
      {"sharp", {.tau = 0.05, .upper = 1.05}},
      {"soft", {.tau = 1.0, .lower = -1.0, .upper = 1.5, .location_bias = -1.0}},
  };
  return sets;
}

const std::vector<double> kLogits = {-10, -5, -2, -0.5, 0, 0.3, 1, 4, 5, 10};

struct Moments {
  double p_zero = 0, p_one = 0, p_nonzero = 0, mean = 0;
};

// The definition, integrated over u by midpoints in x = log u - log(1 - u), du = sigmoid'(x) dx, so
// that the tails are resolved as finely as the middle. At a jump the error is at most step/2 of the
// density there, which is under what lies beyond: a relative 1e-4. z itself has only kinks: an
// error of step^2 / (12 tau), under 1e-7.
Moments integrate(const HardConcreteOptions& o, double logit) {
  constexpr int kPoints = 400'000;
  constexpr double kReach = 40.0, kStep = 2 * kReach / kPoints;
  Moments moments;
  for (int i = 0; i < kPoints; ++i) {
    const double x = -kReach + (i + 0.5) * kStep;
    const double u = 1 / (1 + std::exp(-x)), weight = u * (1 / (1 + std::exp(x))) * kStep;
    const double s = 1 / (1 + std::exp(-(x + logit + o.location_bias) / o.tau));
    const double z = std::clamp(s * (o.upper - o.lower) + o.lower, 0.0, 1.0);
    (z > 0 ? moments.p_nonzero : moments.p_zero) += weight;
    if (z >= 1 && o.upper > 1) moments.p_one += weight;
    moments.mean += z * weight;
  }
  return moments;
}

TEST(HardConcreteTest, ClosedFormsAgreeWithNumericalIntegration) {
  for (const auto& [name, o] : option_sets()) {
    for (const double logit : kLogits) {
      SCOPED_TRACE(fmt::format("{}, logit {}", name, logit));
      const Moments expected = integrate(o, logit);
      const auto near = [](double value, double expected) {
        EXPECT_NEAR(value, expected, 2e-4 * expected + 1e-12);
      };
      near(hard_concrete::p_zero(o, logit), expected.p_zero);
      near(std::exp(hard_concrete::log_expected_l0(o, logit)), expected.p_nonzero);
      near(hard_concrete::p_one(o, logit), expected.p_one);
      EXPECT_NEAR(hard_concrete::mean(o, logit), expected.mean, 1e-7);
      EXPECT_NEAR(
          hard_concrete::p_zero(o, logit) + std::exp(hard_concrete::log_expected_l0(o, logit)), 1.0,
          1e-15);
    }
  }
}

// logsigmoid(logit + 0.2 log 5), by hand.
TEST(HardConcreteTest, GoldenValues) {
  const auto keep = [](double logit) {
    return std::exp(hard_concrete::log_expected_l0(HardConcreteOptions{}, logit));
  };
  EXPECT_NEAR(keep(5), 0.99514, 5e-6);
  EXPECT_NEAR(keep(0), 0.580, 5e-4);
  EXPECT_NEAR(keep(-5), 0.00921, 5e-6);
  EXPECT_NEAR(keep(-10), 6.3e-5, 5e-7);
}

TEST(HardConcreteTest, SurvivalIsOneMinusTheDistributionFunction) {
  const HardConcreteOptions o{.tau = 0.4, .lower = -0.3, .upper = 1.2};
  const double logit = 0.7;
  EXPECT_NEAR(hard_concrete::survival(o, logit, 0.0), 1 - hard_concrete::p_zero(o, logit), 1e-15);
  EXPECT_NEAR(hard_concrete::survival(o, logit, 1.0), hard_concrete::p_one(o, logit), 1e-15);
  // E[z] = integral of P(z > x), by midpoints.
  double sum = 0;
  for (int i = 0; i < 10'000; ++i) sum += hard_concrete::survival(o, logit, (i + 0.5) / 10'000);
  EXPECT_NEAR(sum / 10'000, hard_concrete::mean(o, logit), 1e-7);
}

TEST(HardConcreteTest, TailsStayPrecise) {
  const HardConcreteOptions o;
  const double shift = 0.2 * std::log(5.0);
  EXPECT_NEAR(hard_concrete::p_zero(o, 40.0) / std::exp(-40.0 - shift), 1.0, 1e-12);
  EXPECT_NEAR(hard_concrete::log_expected_l0(o, -800.0), -800.0 + shift, 1e-9);
  EXPECT_EQ(hard_concrete::p_one(o, 100.0), 0.0);
  const HardConcrete gate;
  const at::Tensor logits = at::tensor({-200.0f, 200.0f});
  EXPECT_TRUE(at::isfinite(gate.log_expected_l0(logits)).all().item<bool>());
  EXPECT_NEAR(gate.mean(logits)[0].item<float>(), 0.0, 1e-6);
  EXPECT_NEAR(gate.mean(logits)[1].item<float>(), 1.0, 1e-6);
}

TEST(HardConcreteTest, TensorsGiveWhatDoublesGive) {
  for (const auto& [name, o] : option_sets()) {
    SCOPED_TRACE(name);
    const HardConcrete gate(o);
    const at::Tensor logits = at::tensor(kLogits, at::kDouble).view({2, 5});
    std::vector<double> keep, mean, zero, one;
    for (const double logit : kLogits) {
      keep.push_back(hard_concrete::log_expected_l0(o, logit));
      mean.push_back(hard_concrete::mean(o, logit));
      zero.push_back(hard_concrete::p_zero(o, logit));
      one.push_back(hard_concrete::p_one(o, logit));
    }
    const auto compare = [](const at::Tensor& value, const std::vector<double>& expected,
                            double tolerance) {
      EXPECT_EQ(value.sizes(), at::IntArrayRef({2, 5}));
      const at::Tensor difference =
          value.to(at::kDouble).flatten() - at::tensor(expected, at::kDouble);
      EXPECT_LT(difference.abs().max().item<double>(), tolerance);
    };
    compare(gate.log_expected_l0(logits), keep, 1e-12);
    compare(gate.mean(logits), mean, 1e-12);
    compare(hard_concrete::p_zero(o, logits), zero, 1e-12);
    compare(hard_concrete::p_one(o, logits), one, 1e-12);
    compare(gate.log_expected_l0(logits.to(at::kFloat)), keep, 1e-5);  // of numbers up to 10
    compare(gate.mean(logits.to(at::kFloat)), mean, 1e-6);
  }
}

TEST(HardConcreteTest, SamplesFollowTheClosedForms) {
  constexpr int64_t kSamples = 100'000;
  constexpr double kTolerance = 5 * 0.5 / 316;  // five standard deviations of a share, at most
  for (const auto& [name, o] : option_sets()) {
    const HardConcrete gate(o);
    for (const double logit : {-2.0, 0.0, 1.0}) {
      SCOPED_TRACE(fmt::format("{}, logit {}", name, logit));
      const at::Tensor z = gate.sample(at::full({kSamples}, logit), make_generator(11));
      EXPECT_TRUE(z.ge(0).logical_and(z.le(1)).all().item<bool>());
      const auto share = [](const at::Tensor& where) {
        return where.to(at::kDouble).mean().item<double>();
      };
      EXPECT_NEAR(share(z.eq(0)), hard_concrete::p_zero(o, logit), kTolerance);
      EXPECT_NEAR(share(z), hard_concrete::mean(o, logit), kTolerance);
      if (o.upper > 1) EXPECT_NEAR(share(z.eq(1)), hard_concrete::p_one(o, logit), kTolerance);
    }
  }
}

TEST(HardConcreteTest, SameSeedSameSample) {
  const HardConcrete gate;
  const at::Tensor logits = at::linspace(-3, 3, 64).view({8, 8});
  const at::Tensor z = gate.sample(logits, make_generator(1));
  EXPECT_EQ(z.sizes(), logits.sizes());
  EXPECT_TRUE(z.equal(gate.sample(logits, make_generator(1))));
  EXPECT_FALSE(z.equal(gate.sample(logits, make_generator(2))));
}

TEST(HardConcreteTest, GradientsAgreeWithFiniteDifferences) {
  const at::Tensor point = at::linspace(-3, 3, 40, at::kDouble).view({4, 10});
  const at::Tensor weights = at::linspace(1, 2, 40, at::kDouble).view({4, 10});
  for (const auto& [name, o] : option_sets()) {
    SCOPED_TRACE(name);
    const HardConcrete gate(o);
    // A third derivative is of the order 1/tau^3: at tau = 0.05 the difference itself errs by 1e-6.
    const double tolerance = o.tau < 0.1 ? 1e-5 : 1e-7;
    expect_gradient([&](const auto& x) { return (weights * gate.mean(x)).sum(); }, point);
    expect_gradient([&](const auto& x) { return (weights * gate.log_expected_l0(x)).sum(); },
                    point);
    expect_gradient(
        [&](const auto& x) { return (weights * gate.sample(x, make_generator(4))).sum(); }, point,
        tolerance);
  }
}

TEST(HardConcreteTest, StraightThroughIsHardForwardAndSoftBackward) {
  const HardConcreteOptions soft{.tau = 1.0 / 3.0, .lower = -0.2, .upper = 1.2, .location_bias = 3};
  HardConcreteOptions hard = soft;
  hard.straight_through = true;
  const at::Tensor x = at::linspace(-6, 0, 100).requires_grad_(true);
  const at::Tensor z = HardConcrete(soft).sample(x, make_generator(2));
  const at::Tensor rounded = HardConcrete(hard).sample(x, make_generator(2));
  // z + (1[z > 0.5] - z) may miss 0 and 1 by the rounding of a float.
  EXPECT_TRUE(rounded.allclose(z.gt(0.5).to(at::kFloat), 0, 1e-7));
  EXPECT_TRUE(z.gt(0).logical_and(z.lt(1)).any().item<bool>());
  const at::Tensor gradient = torch::autograd::grad({rounded.sum()}, {x})[0];
  EXPECT_TRUE(gradient.equal(torch::autograd::grad({z.sum()}, {x})[0]));
  EXPECT_GT(gradient.abs().max().item<float>(), 0.1);
}

TEST(HardConcreteTest, RefusesBadOptions) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto make = [](HardConcreteOptions options) { return [=] { HardConcrete gate(options); }; };
  expect_refused({
      {"tau 0", make({.tau = 0}), "tau has to be > 0, but got 0"},
      {"tau -1", make({.tau = -1}), "tau"},
      {"tau NaN", make({.tau = kNan}), "tau"},
      {"tau infinite", make({.tau = kInfinity}), "tau"},
      {"lower 0", make({.lower = 0}), "lower has to be < 0, but got 0"},
      {"lower infinite", make({.lower = -kInfinity}), "lower"},
      {"upper 0.99", make({.upper = 0.99}), "upper has to be >= 1, but got 0.99"},
      {"upper NaN", make({.upper = kNan}), "upper"},
      {"bias NaN", make({.location_bias = kNan}), "location_bias has to be finite"},
  });
}

}  // namespace
}  // namespace diffmask
