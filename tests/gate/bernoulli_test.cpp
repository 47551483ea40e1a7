#include "diffmask/gate/bernoulli.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "diffmask/core/random.hpp"
#include "tests/finite_difference.hpp"

namespace diffmask {
namespace {

double p(double logit) { return 1 / (1 + std::exp(-logit)); }

TEST(BernoulliTest, KnownValues) {
  const Bernoulli gate;
  for (const double logit : {-3.0, 0.0, 0.4, 5.0}) {
    const at::Tensor x = at::full({1}, logit, at::kDouble);
    EXPECT_NEAR(gate.mean(x).item<double>(), p(logit), 1e-15);
    // 2e-15: two units in the last place of a log near 5.
    EXPECT_NEAR(gate.log_expected_l0(x).item<double>(), std::log(p(logit)), 2e-15);
    EXPECT_NEAR(gate.log_prob(at::ones({1}), x).item<double>(), std::log(p(logit)), 2e-15);
    EXPECT_NEAR(gate.log_prob(at::zeros({1}), x).item<double>(), std::log(p(-logit)), 2e-15);
  }
  const at::Tensor extreme = at::tensor({-300.0f, 300.0f});
  EXPECT_TRUE(at::isfinite(gate.log_prob(at::tensor({1.0f, 0.0f}), extreme)).all().item<bool>());
}

TEST(BernoulliTest, SamplesAreZerosAndOnesOfTheRightShare) {
  constexpr int64_t kSamples = 100'000;
  const Bernoulli gate;
  for (const double logit : {-2.0, 0.0, 1.0}) {
    const at::Tensor x = at::full({kSamples}, logit).requires_grad_(true);
    const at::Tensor z = gate.sample(x, make_generator(3));
    EXPECT_FALSE(z.requires_grad());
    EXPECT_TRUE(z.eq(0).logical_or(z.eq(1)).all().item<bool>());
    EXPECT_NEAR(z.mean().item<double>(), p(logit), 5 * 0.5 / 316);  // five standard deviations
    EXPECT_TRUE(z.equal(gate.sample(x, make_generator(3))));
    EXPECT_FALSE(z.equal(gate.sample(x, make_generator(4))));
  }
}

TEST(BernoulliTest, GradientsAgreeWithFiniteDifferences) {
  const Bernoulli gate;
  const at::Tensor point = at::linspace(-3, 3, 12, at::kDouble);
  const at::Tensor z = gate.sample(point, make_generator(5));
  expect_gradient([&](const auto& x) { return gate.mean(x).sum(); }, point);
  expect_gradient([&](const auto& x) { return gate.log_expected_l0(x).sum(); }, point);
  expect_gradient([&](const auto& x) { return gate.log_prob(z, x).sum(); }, point);
}

}  // namespace
}  // namespace diffmask
