#include "diffmask/train/summary.hpp"

#include <gtest/gtest.h>

namespace diffmask {
namespace {

Summary example() {
  Summary summary;
  summary.epsilon = 0.05;
  summary.steps = 2000;
  summary.seconds = 14.24;
  summary.depths = {{"embedding", {0.04, 0.03, 0.5, 0.25, 0.9}, 3.25, 1750, true},
                    {"encoder", {0.061, 0.0502, 1.0, 0.125, 0.75}, 200.0, 2000, false}};
  return summary;
}

TEST(SummaryTest, IsFeasibleWhereEveryDepthIs) {
  Summary summary = example();
  EXPECT_FALSE(summary.feasible());
  summary.depths[1].feasible = true;
  EXPECT_TRUE(summary.feasible());
  EXPECT_FALSE(Summary().feasible()) << "nothing was trained";
}

TEST(SummaryTest, ReportsInALine) {
  Summary summary = example();
  EXPECT_EQ(summary.brief_report(), "2000 steps in 14.2 s: 1 of 2 depths within 0.05");
  summary.interrupted = true;
  EXPECT_EQ(summary.brief_report(), "2000 steps in 14.2 s, interrupted: 1 of 2 depths within 0.05");
}

TEST(SummaryTest, ReportsATable) {
  EXPECT_EQ(example().full_report(),
            "2000 steps in 14.2 s: 1 of 2 depths within 0.05\n"
            "  site              D    keep    D hard    keep    D<=eps  lambda   step  feasible\n"
            "  embedding    0.0400   50.0%    0.0300   25.0%     90.0%     3.2   1750  yes\n"
            "  encoder      0.0610  100.0%    0.0502   12.5%     75.0%   200.0   2000  no\n");
}

}  // namespace
}  // namespace diffmask
