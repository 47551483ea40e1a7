#include "diffmask/core/random.hpp"

#include <gtest/gtest.h>

#include <set>

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

}  // namespace
}  // namespace diffmask
