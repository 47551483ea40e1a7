#include "diffmask/metrics/ranking.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"
#include "tests/metrics/reals.hpp"

namespace diffmask {
namespace {

at::Tensor bools(const std::vector<int64_t>& values) { return at::tensor(values).to(at::kBool); }

TEST(RankingTest, CountsPairs) {
  // True at 0.9, 0.6, 0.3; false at 0.7, 0.2: of 6 pairs 2 + 1 + 1 are in order.
  const at::Tensor scores = reals({0.9, 0.7, 0.6, 0.3, 0.2}), truth = bools({1, 0, 1, 1, 0});
  EXPECT_NEAR(roc_auc(scores, truth), 4 / 6.0, 1e-12);
  // Precision at the three: 1/1, 2/3, 3/4.
  EXPECT_NEAR(average_precision(scores, truth), (1 + 2 / 3.0 + 3 / 4.0) / 3, 1e-12);
  EXPECT_NEAR(roc_auc(-scores, truth), 2 / 6.0, 1e-12);
}

TEST(RankingTest, EqualScoresAreOneThreshold) {
  // True at 3, 2, 2; false at 2, 1: 2 pairs, and 1 + 1/2 twice.
  const at::Tensor scores = reals({2, 1, 2, 3, 2}), truth = bools({0, 0, 1, 1, 1});
  EXPECT_NEAR(roc_auc(scores, truth), 5 / 6.0, 1e-12);
  EXPECT_NEAR(average_precision(scores, truth), (1 + 3 / 4.0 + 3 / 4.0) / 3, 1e-12);
  EXPECT_EQ(roc_auc(at::zeros({5}), truth), 0.5);
  EXPECT_NEAR(average_precision(at::zeros({5}), truth), 3 / 5.0, 1e-12);
}

TEST(RankingTest, OrderOfEntriesDoesNotMatter) {
  const at::Tensor scores = at::randint(7, {100}, make_generator(1)).to(at::kFloat);
  const at::Tensor truth = at::rand({100}, make_generator(2)).gt(0.7);
  EXPECT_EQ(roc_auc(scores, truth), roc_auc(scores.flip(0), truth.flip(0)));
  EXPECT_EQ(average_precision(scores, truth), average_precision(scores.flip(0), truth.flip(0)));
  EXPECT_EQ(roc_auc(truth.to(at::kFloat), truth), 1);
  EXPECT_EQ(average_precision(truth.to(at::kFloat), truth), 1);
}

TEST(RankingTest, RefusesBadInput) {
  const at::Tensor two = reals({1, 2});
  expect_refused({
      {"lengths",
       [&] {
         roc_auc(two, bools({1, 0, 1}));
       },
       "truth has to be of shape (2)"},
      {"NaN",
       [&] {
         roc_auc(two * NAN, bools({1, 0}));
       },
       "scores has to be finite"},
      {"not bool", [&] { roc_auc(two, two); }, "truth has to be"},
      {"all false",
       [&] {
         roc_auc(two, bools({0, 0}));
       },
       "truth has to be true somewhere"},
      {"all true",
       [&] {
         roc_auc(two, bools({1, 1}));
       },
       "truth has to be false somewhere"},
      {"nothing to find",
       [&] {
         average_precision(two, bools({0, 0}));
       },
       "true somewhere"},
      {"no scores", [] { roc_auc(at::Tensor(), bools({1})); }, "scores"},
  });
}

}  // namespace
}  // namespace diffmask
