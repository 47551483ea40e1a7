#include "diffmask/mask/masking.hpp"

#include <gtest/gtest.h>

#include "diffmask/core/random.hpp"
#include "tests/finite_difference.hpp"

namespace diffmask {
namespace {

at::Tensor draw(std::vector<int64_t> shape, uint64_t seed) {
  return at::randn(shape, make_generator(seed), at::TensorOptions(at::kDouble));
}

TEST(MaskingTest, MixesStateAndBaseline) {
  const at::Tensor state = at::tensor({1.0, 2.0, 3.0, 4.0}).view({1, 2, 2});
  const at::Tensor z = at::tensor({0.25, 0.0}).view({1, 2, 1}), baseline = at::tensor({5.0, 6.0});
  EXPECT_TRUE(masked(state, z, baseline).equal(at::tensor({4.0, 5.0, 5.0, 6.0}).view({1, 2, 2})));
}

TEST(MaskingTest, LeavesTheStateBitForBitWhereZIsOne) {
  const at::Tensor state = at::randn({3, 4, 5}, make_generator(1)) * 1e3;
  const at::Tensor baseline = at::randn({5}, make_generator(2)) * 1e6;
  EXPECT_TRUE(masked(state, at::ones({3, 4, 1}), baseline).equal(state));
}

TEST(MaskingTest, GradientsAgreeWithFiniteDifferences) {
  const at::Tensor state = draw({2, 3, 4}, 1), z = draw({2, 3, 1}, 2), baseline = draw({4}, 3);
  const auto cost = [](const at::Tensor& x) { return x.pow(3).sum(); };
  expect_gradient([&](const auto& x) { return cost(masked(x, z, baseline)); }, state);
  expect_gradient([&](const auto& x) { return cost(masked(state, x, baseline)); }, z);
  expect_gradient([&](const auto& x) { return cost(masked(state, z, x)); }, baseline);
}

}  // namespace
}  // namespace diffmask
