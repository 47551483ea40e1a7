#include "diffmask/optim/lookahead.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

TEST(LookaheadTest, SlowWeightsGoAShareOfTheWayEveryKSteps) {
  const at::Tensor x = at::zeros({2}).requires_grad_(true);
  Lookahead lookahead({x}, {.k = 3, .alpha = 0.5});
  // The inner optimiser adds 1 a step: 1, 2, 3 -> 1.5, then 2.5, 3.5, 4.5 -> 3.
  for (const float expected : {1.0f, 2.0f, 1.5f, 2.5f, 3.5f, 3.0f, 4.0f}) {
    {
      at::NoGradGuard no_grad;
      x.add_(1);
    }
    lookahead.step();
    EXPECT_TRUE(x.equal(at::full({2}, expected)));
  }
  EXPECT_TRUE(x.requires_grad());
  EXPECT_TRUE(x.is_leaf());
}

TEST(LookaheadTest, AlphaOneFollowsTheFastWeights) {
  const at::Tensor x = at::zeros({1});
  Lookahead lookahead({x}, {.k = 1, .alpha = 1});
  for (int step = 1; step <= 4; ++step) {
    x.add_(1);
    lookahead.step();
    EXPECT_EQ(x.item<float>(), step);
  }
}

TEST(LookaheadTest, RefusesBadOptions) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto make = [](LookaheadOptions options) { return [=] { Lookahead({}, options); }; };
  expect_refused({
      {"k 0", make({.k = 0}), "k has to be >= 1, but got 0"},
      {"alpha 0", make({.alpha = 0}), "alpha has to be in (0, 1], but got 0"},
      {"alpha 1.5", make({.alpha = 1.5}), "alpha"},
      {"alpha NaN", make({.alpha = kNan}), "alpha"},
  });
}

}  // namespace
}  // namespace diffmask
