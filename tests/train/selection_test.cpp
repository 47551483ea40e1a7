#include "diffmask/train/selection.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace diffmask {
namespace {

TEST(ScoreTest, TheViolationComesFirstThenWhatIsKept) {
  const DepthEvaluation mask{
      .divergence = 0.3, .hard_divergence = 0.05, .keep = 0.4, .hard_keep = 0.2};
  const Score expected = Score::of(mask, Selection::expected, 0.1);
  EXPECT_NEAR(expected.violation, 0.2, 1e-12);
  EXPECT_EQ(expected.keep, 0.4);
  const Score hard = Score::of(mask, Selection::hard, 0.1);
  EXPECT_EQ(hard.violation, 0);
  EXPECT_EQ(hard.keep, 0.2);
  const Score both = Score::of(mask, Selection::both, 0.1);
  EXPECT_NEAR(both.violation, 0.2, 1e-12);
  EXPECT_NEAR(both.keep, 0.6, 1e-12);
  EXPECT_LT(hard, expected);
  EXPECT_LT((Score{0.1, 0.9}), (Score{0.2, 0.1}));
  EXPECT_LT((Score{0.1, 0.1}), (Score{0.1, 0.9}));
  EXPECT_LT((Score{1e9, 1e9}), Score{}) << "anything beats what was never seen";
  EXPECT_EQ(Score::joint({{0.1, 0.5}, {0.3, 0.25}}), (Score{0.3, 0.75}));
}

TEST(BestParametersTest, GivesBackTheLastCopyOfEach) {
  at::Tensor a = at::zeros({2}), b = at::zeros({1});
  BestParameters best;
  best.keep({a, b});
  a.fill_(1);
  best.keep({a});
  a.fill_(2);
  b.fill_(2);
  best.restore();
  EXPECT_TRUE(a.eq(1).all().item<bool>());
  EXPECT_EQ(b.item<float>(), 0);
}

}  // namespace
}  // namespace diffmask
