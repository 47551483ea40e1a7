#include "diffmask/objective/lagrangian.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace diffmask {
namespace {

TEST(LagrangianTest, IsThePenaltyPlusTheWeighedViolation) {
  const at::Tensor r = at::full({}, 2.0), d = at::tensor({0.1, 0.5});
  EXPECT_NEAR(lagrangian(r, d, /*multiplier=*/10, /*epsilon=*/0.2).item<double>(), 3.0, 1e-6);
  EXPECT_NEAR(lagrangian(r, d, 0, 0.2).item<double>(), 2.0, 1e-6);
}

}  // namespace
}  // namespace diffmask
