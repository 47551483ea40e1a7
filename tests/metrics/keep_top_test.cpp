#include "diffmask/metrics/keep_top.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

at::Tensor one_row(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).unsqueeze(0);
}

at::Tensor all(int64_t positions) { return at::ones({1, positions}, at::kBool); }

TEST(KeepTopTest, KeepsTheHighestScoresOfExplainedPositions) {
  const at::Tensor mask = torch::tensor({{true, true, true, false}, {true, true, true, true}});
  const at::Tensor scores = torch::tensor({{0.1, 0.5, 0.3, 9.0}, {-1.0, -4.0, -2.0, -3.0}});
  const KeepTop top = keep_top(scores, mask, 0.5);
  EXPECT_TRUE(
      top.keep.equal(torch::tensor({{false, true, true, false}, {true, false, true, false}})));
  EXPECT_FALSE(top.tied.any().item<bool>());
  EXPECT_TRUE(
      score_ranks(scores, mask).equal(torch::tensor({{2, 0, 1, 3}, {0, 3, 1, 2}}, at::kLong)));
}

TEST(KeepTopTest, RoundsUpButNotByRoundingErrors) {
  for (const auto& [share, count] : std::vector<std::pair<double, int64_t>>{
           {0, 0}, {0.01, 1}, {0.1, 1}, {0.3, 3}, {0.31, 4}, {0.7, 7}, {1, 10}}) {
    EXPECT_EQ(top_counts(all(10), share).item<int64_t>(), count) << share;
  }
}

TEST(KeepTopTest, ChanceDecidesAmongEqualScores) {
  const at::Tensor scores = one_row({1, 0, 0, 0});
  EXPECT_FALSE(keep_top(scores, all(4), 0.25).tied.item<bool>());
  EXPECT_TRUE(keep_top(scores, all(4), 0.5).tied.item<bool>());
  EXPECT_FALSE(keep_top(scores, all(4), 1).tied.item<bool>()) << "none is left out";
  EXPECT_TRUE(keep_top(scores, all(4), 0.5).keep.equal(torch::tensor({{true, true, false, false}})))
      << "the positions' own order without a generator";
  const at::Generator generator = make_generator(1);
  at::Tensor times = at::zeros({1, 4});
  for (int i = 0; i < 600; ++i) times += keep_top(scores, all(4), 0.5, generator).keep;
  EXPECT_EQ(times[0][0].item<double>(), 600);
  for (int i = 1; i < 4; ++i) EXPECT_NEAR(times[0][i].item<double>(), 200, 60) << i;
  EXPECT_TRUE(keep_top(scores, all(4), 0.5, make_generator(2))
                  .keep.equal(keep_top(scores, all(4), 0.5, make_generator(2)).keep));
}

TEST(KeepTopTest, RefusesBadInput) {
  expect_refused({
      {"share", [] { keep_top(one_row({1}), all(1), 1.5); },
       "share has to be in [0, 1], but got 1.5"},
      {"shape",
       [] {
         keep_top(one_row({1, 2}), all(1), 1);
       },
       "scores"},
      {"NaN", [] { keep_top(one_row({NAN}), all(1), 1); }, "scores"},
      {"mask",
       [] {
         keep_top(one_row({1}), at::ones({1, 1}), 1);
       },
       "mask"},
  });
}

}  // namespace
}  // namespace diffmask
