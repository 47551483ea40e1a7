#include "diffmask/mask/masking.hpp"

#include <gtest/gtest.h>

#include <cmath>

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

TEST(ShuffledMaskTest, KeepsAsMuchOfEachRowElsewhere) {
  const at::Tensor mask = at::tensor({1, 1, 1, 1, 1, 1, 0, 1, 0, 1}).view({2, 5}).to(at::kBool);
  const at::Tensor z =
      at::tensor({0.0, 0.25, 0.5, 0.75, 1.0, 0.0, 1.0, 0.5, 1.0, 1.0}).view({2, 5});
  at::Tensor mean = at::zeros({2, 5});
  constexpr int kDraws = 2000;
  at::Generator generator = make_generator(1);
  for (int i = 0; i < kDraws; ++i) {
    const at::Tensor shuffled = shuffled_mask(z, mask, generator);
    for (int row = 0; row < 2; ++row) {
      ASSERT_TRUE(std::get<0>(shuffled[row].sort()).equal(std::get<0>(z[row].sort())));
    }
    ASSERT_EQ(shuffled[1][1].item<float>(), 1) << "padding stays";
    ASSERT_EQ(shuffled[1][3].item<float>(), 1);
    mean += shuffled / kDraws;
  }
  // Every explained position gets each value alike: five standard deviations of a mean of 2,000.
  const at::Tensor expected = at::tensor({0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 0.5, 1.0, 0.5});
  EXPECT_LT((mean.flatten() - expected).abs().max().item<float>(), 5 * 0.41 / std::sqrt(2000.0));
  EXPECT_TRUE(
      shuffled_mask(z, mask, make_generator(2)).equal(shuffled_mask(z, mask, make_generator(2))));
}

}  // namespace
}  // namespace diffmask
