#include "diffmask/core/random.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

TEST(RandomTest, SameSeedGivesTheSameBits) {
  const at::Tensor first = at::randn({100}, make_generator(7));
  EXPECT_TRUE(first.equal(at::randn({100}, make_generator(7))));
  EXPECT_FALSE(first.equal(at::randn({100}, make_generator(8))));
}

TEST(RandomTest, LeavesTheGlobalGeneratorAlone) {
  at::manual_seed(1);
  const at::Tensor expected = at::rand({4});
  at::manual_seed(1);
  at::rand({50}, make_generator(3));
  EXPECT_TRUE(expected.equal(at::rand({4})));
}

// The outputs of SplitMix64, https://prng.di.unimi.it/splitmix64.c, whose n-th state is
// seed + n * 0x9E3779B97F4A7C15; the second column is Rosetta Code's check of it.
TEST(RandomTest, StreamsAreSplitMix64) {
  EXPECT_EQ(derive_seed(0, 0), 0xE220A8397B1DCDAFULL);
  EXPECT_EQ(derive_seed(0, 1), 0x6E789E6AA1B965F4ULL);
  EXPECT_EQ(derive_seed(1234567, 0), 6457827717110365317ULL);
  EXPECT_EQ(derive_seed(1234567, 1), 3203168211198807973ULL);
  EXPECT_EQ(derive_seed(1234567, 4), 16408922859458223821ULL);
}

TEST(RandomTest, StreamsDiffer) {
  std::set<uint64_t> seeds;
  for (uint64_t stream = 0; stream < 10'000; ++stream) seeds.insert(derive_seed(3, stream));
  EXPECT_EQ(seeds.size(), 10'000u);
}

TEST(DropoutTest, DropsAShareAndScalesTheRest) {
  const at::Tensor x = at::randn({200, 50}, make_generator(1)).requires_grad_();
  const at::Tensor y = dropped_out(x, 0.3, make_generator(2));
  const at::Tensor kept = y.ne(0);
  // Five standard deviations of a binomial share of 10,000 draws.
  EXPECT_NEAR(kept.to(at::kDouble).mean().item<double>(), 0.7, 0.023);
  EXPECT_TRUE(at::allclose(y, x * kept / 0.7));
  y.sum().backward();
  EXPECT_TRUE(at::allclose(x.grad(), kept / 0.7));
  EXPECT_TRUE(y.equal(dropped_out(x, 0.3, make_generator(2))));
  EXPECT_FALSE(y.equal(dropped_out(x, 0.3, make_generator(3))));
}

TEST(DropoutTest, ARateOfZeroDrawsNothing) {
  const at::Tensor x = at::ones({3});
  EXPECT_TRUE(dropped_out(x, 0, {}).is_same(x));
}

// Meta stands for a device that the generator is not on.
TEST(DropoutTest, FollowsTheDeviceOfWhatItReads) {
  const at::Tensor x = at::empty({4, 5}, at::TensorOptions(c10::kMeta));
  const at::Tensor y = dropped_out(x, 0.5, make_generator(1));
  EXPECT_TRUE(y.is_meta());
  EXPECT_EQ(y.sizes(), x.sizes());
}

TEST(DropoutTest, RefusesBadInput) {
  const at::Tensor x = at::ones({3});
  expect_refused({
      {"1", [&] { dropped_out(x, 1, make_generator(1)); }, "rate has to be in [0, 1), but got 1"},
      {"below 0", [&] { dropped_out(x, -0.1, make_generator(1)); }, "rate has to be in [0, 1)"},
      {"NaN", [&] { dropped_out(x, NAN, make_generator(1)); },
       "rate has to be in [0, 1), but got nan"},
      {"no generator", [&] { dropped_out(x, 0.5, {}); }, "generator has to be given"},
  });
}

}  // namespace
}  // namespace diffmask
