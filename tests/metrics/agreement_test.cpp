#include "diffmask/metrics/agreement.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/bad_input.hpp"
#include "tests/metrics/reals.hpp"

namespace diffmask {
namespace {

TEST(SpearmanTest, ComparesRanksAlone) {
  const at::Tensor a = reals({0.1, 0.4, 0.2, 0.9});
  EXPECT_NEAR(spearman(a, a.exp() * 7), 1, 1e-12);
  EXPECT_NEAR(spearman(a, -a), -1, 1e-12);
  // Ranks 1 2 3 4 5 and 2 1 4 3 5: 1 - 6 * 4 / (5 * 24).
  EXPECT_NEAR(spearman(reals({1, 2, 3, 4, 5}), reals({20, 10, 40, 30, 50})), 0.8, 1e-12);
}

TEST(SpearmanTest, GivesEqualValuesTheMeanOfTheirRanks) {
  // Ranks 1.5 1.5 3 4 and 1 2 3 4: covariance 4.5, variances 4.5 and 5.
  EXPECT_NEAR(spearman(reals({1, 1, 2, 3}), reals({1, 2, 3, 4})), 4.5 / std::sqrt(22.5), 1e-12);
  EXPECT_TRUE(std::isnan(spearman(reals({1, 1}), reals({1, 2}))));
}

TEST(ChoiceF1Test, IsTheHarmonicMeanOfPrecisionAndRecall) {
  EXPECT_NEAR(choice_f1({true, true, false, false}, {true, false, true, true}), 2 * 1.0 / 5, 1e-15);
  EXPECT_EQ(choice_f1({true, false}, {true, false}), 1);
  EXPECT_EQ(choice_f1({false, false}, {false, true}), 0);
  EXPECT_EQ(choice_f1({false, false}, {false, false}), 1);
}

TEST(AgreementTest, RefusesBadInput) {
  expect_refused({
      {"one", [] { spearman(reals({1}), reals({1})); }, "a has to be of at least two values"},
      {"sizes",
       [] {
         spearman(reals({1, 2}), reals({1, 2, 3}));
       },
       "b has to be of shape (2)"},
      {"NaN",
       [] {
         spearman(reals({1, NAN}), reals({1, 2}));
       },
       "a"},
      {"choices",
       [] {
         choice_f1({true}, {true, false});
       },
       "chosen has to be of 2 entries"},
  });
}

TEST(ChoiceIouTest, IsTheShareOfBothInEither) {
  EXPECT_NEAR(choice_iou({true, true, false, false}, {false, true, true, false}), 1.0 / 3, 1e-12);
  EXPECT_EQ(choice_iou({false, false}, {false, false}), 1);
  EXPECT_EQ(choice_iou({true, false}, {false, false}), 0);
}

TEST(SpanIouF1Test, CountsSpansThatOverlapByHalf) {
  // Spans [0, 2), [4, 5) against [0, 3), [5, 7): IOU 2/3, and none.
  const std::vector<bool> chosen = {true, true, false, false, true, false, false, false};
  const std::vector<bool> truth = {true, true, true, false, false, true, true, false};
  EXPECT_NEAR(span_iou_f1(chosen, truth), 0.5, 1e-12);
  EXPECT_EQ(span_iou_f1(chosen, truth, 0.7), 0);
  // Two halves of one true span: P = 1, R = 1 at most.
  EXPECT_EQ(span_iou_f1({true, false, true}, {true, true, true}, 0.3), 1);
  EXPECT_EQ(span_iou_f1({false}, {false}), 1);
  EXPECT_EQ(span_iou_f1({true}, {false}), 0);
  expect_refused(
      {{"threshold", [&] { span_iou_f1(chosen, truth, 0); }, "threshold has to be in (0, 1]"},
       {"size", [&] { span_iou_f1(chosen, {true}); }, "chosen has to be of 1 entries"},
       {"size", [&] { choice_iou(chosen, {true}); }, "chosen has to be of 1 entries"}});
}

TEST(MeanSpearmanTest, LeavesOutWhatHasNoRanks) {
  const at::Tensor up = at::tensor({1.0, 2.0, 3.0}), down = at::tensor({3.0, 2.0, 1.0});
  const at::Tensor half = at::tensor({1.0, 3.0, 2.0});  // rho = 1/2 with `up`
  EXPECT_NEAR(mean_spearman({up, up}, {down, half}), -0.25, 1e-12);
  EXPECT_NEAR(mean_spearman({up, up, up}, {half, at::ones({3}, at::kDouble), half}), 0.5, 1e-12);
  EXPECT_NEAR(mean_spearman({up, at::ones({1})}, {half, at::ones({1})}), 0.5, 1e-12);
  EXPECT_TRUE(std::isnan(mean_spearman({at::ones({3}, at::kDouble)}, {up})));
  expect_refused({{"none", [] { mean_spearman({}, {}); }, "a has to be scores of at least one"},
                  {"counts",
                   [&] {
                     mean_spearman({up}, {up, up});
                   },
                   "b has to be of 1 examples"}});
}

TEST(MeansByLabelTest, AreMeansOverEachLabelsEntries) {
  const at::Tensor values = at::tensor({1.0, 2.0, 3.0, 5.0});
  const at::Tensor label = at::tensor(std::vector<int64_t>{2, 0, 2, 0}, at::kLong);
  const auto means = means_by_label(values, label, 3);
  ASSERT_EQ(means.size(), 3u);
  EXPECT_EQ(means[0], 3.5);
  EXPECT_TRUE(std::isnan(means[1]));
  EXPECT_EQ(means[2], 2);
  expect_refused(
      {{"labels", [&] { means_by_label(values, label, 2); }, "label has to be in [0, 2)"},
       {"none", [&] { means_by_label(values, label, 0); }, "labels has to be >= 1, but got 0"},
       {"shape", [&] { means_by_label(values, label.narrow(0, 0, 2), 3); }, "label has to be of"}});
}

}  // namespace
}  // namespace diffmask
