#include "diffmask/metrics/classification.hpp"

#include <gtest/gtest.h>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

at::Tensor ids(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }

TEST(AccuracyTest, IsTheShareThatIsRight) {
  EXPECT_EQ(accuracy(ids({0, 1, 2, 2}), ids({0, 1, 1, 2})), 0.75);
  EXPECT_EQ(accuracy(ids({1}), ids({0})), 0);
  EXPECT_NEAR(accuracy(ids({1, 1, 0}), ids({1, 1, 1})), 2.0 / 3, 1e-15);
}

TEST(MacroF1Test, IsTheMeanOverClasses) {
  // Class 0: TP 2, FP 1, FN 1: 4/6. Class 1: TP 1, FP 1, FN 0: 2/3. Class 2: TP 1, FP 0, FN 1: 2/3.
  EXPECT_NEAR(macro_f1(ids({0, 0, 1, 1, 0, 2}), ids({0, 0, 0, 1, 2, 2}), 3),
              (4.0 / 6 + 2.0 / 3 + 2.0 / 3) / 3, 1e-15);
  // Class 0: TP 3, FP 2, FN 0: 6/8. Class 1: TP 0, FP 0, FN 2: 0.
  EXPECT_NEAR(macro_f1(ids({0, 0, 0, 0, 0}), ids({0, 0, 0, 1, 1}), 2), 0.375, 1e-15);
  EXPECT_EQ(macro_f1(ids({1, 0}), ids({1, 0}), 2), 1);
  EXPECT_EQ(macro_f1(ids({1, 0}), ids({1, 0}), 4), 0.5) << "classes without an example count 0";
  EXPECT_EQ(macro_f1(ids({1, 0}), ids({0, 1}), 2), 0);
}

TEST(ClassificationTest, RefusesBadInput) {
  const at::Tensor two = ids({0, 1}), three = ids({0, 1, 1});
  expect_refused({
      {"sizes", [&] { accuracy(two, three); }, "predicted has to be of shape (3), but got (2)"},
      {"sizes, F1", [&] { macro_f1(three, two, 2); }, "predicted has to be of shape (2)"},
      {"none", [&] { accuracy(ids({}), ids({})); }, "labels has to be of shape (-1)"},
      {"logits",
       [&] {
         accuracy(at::zeros({2, 3}), two);
       },
       "predicted has to be of shape (2)"},
      {"dtype", [&] { accuracy(at::zeros({2}), two); }, "predicted has to be of dtype Long"},
      {"labels' dtype", [&] { macro_f1(two, at::zeros({2}), 2); }, "labels has to be of dtype"},
      {"classes", [&] { macro_f1(two, two, 0); }, "classes has to be >= 1, but got 0"},
      {"label",
       [&] {
         macro_f1(two, ids({0, 2}), 2);
       },
       "labels has to be in [0, 2), but got 0 to 2"},
      {"prediction",
       [&] {
         macro_f1(ids({-1, 0}), two, 2);
       },
       "predicted has to be in [0, 2)"},
      {"undefined", [&] { accuracy(two, {}); }, "an undefined tensor"},
  });
}

}  // namespace
}  // namespace diffmask
