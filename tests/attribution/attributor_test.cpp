#include "diffmask/attribution/attributor.hpp"

#include <gtest/gtest.h>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

Attribution filled(double value, int64_t positions = 3) {
  const at::Tensor scores = at::full({2, positions, 1}, value);
  return {{"gru"}, scores, scores.gt(0.5), at::ones({2, positions}, at::kBool)};
}

TEST(SideBySideTest, PutsDepthsInARowAndNamesThem) {
  const Attribution both = side_by_side({{"input", filled(0.25)}, {"hidden", filled(0.75)}});
  EXPECT_EQ(both.sites, (std::vector<std::string>{"input, gru", "hidden, gru"}));
  EXPECT_TRUE(both.scores.select(2, 0).eq(0.25).all().item<bool>());
  EXPECT_TRUE(both.scores.select(2, 1).eq(0.75).all().item<bool>());
  EXPECT_FALSE(both.keep.select(2, 0).any().item<bool>());
  EXPECT_TRUE(both.keep.select(2, 1).all().item<bool>());
  EXPECT_TRUE(both.mask.equal(filled(0).mask));
}

TEST(SideBySideTest, RefusesBadInput) {
  expect_refused({
      {"none", [] { side_by_side({}); }, "named has to be at least one attribution"},
      {"other positions",
       [] {
         side_by_side({{"input", filled(0)}, {"hidden", filled(0, 4)}});
       },
       "hidden has to be of the same positions as the first"},
  });
}

}  // namespace
}  // namespace diffmask
