#include "diffmask/core/shape.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

TEST(ShapeTest, PrintsAsATuple) {
  EXPECT_EQ(shape_string({2, 7, 64}), "(2, 7, 64)");
  EXPECT_EQ(shape_string({}), "()");
}

TEST(ShapeTest, AcceptsWhatFits) {
  const at::Tensor x = at::zeros({2, 3});
  EXPECT_NO_THROW(check_shape("x", x, {2, 3}));
  EXPECT_NO_THROW(check_shape("x", x, {-1, 3}));
  EXPECT_NO_THROW(check_shape("x", at::zeros({}), {}));
  EXPECT_NO_THROW(check_dtype("x", x, at::kFloat));
  EXPECT_NO_THROW(check_finite("x", x));
  EXPECT_NO_THROW(check_finite("x", at::empty({0})));
}

TEST(ShapeTest, FiniteNumbersMayHaveAnInfiniteSum) {
  EXPECT_NO_THROW(check_finite("x", at::full({4}, std::numeric_limits<float>::max())));
}

TEST(ShapeTest, RefusesWhatDoesNotFit) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const at::Tensor x = at::zeros({2, 3});
  at::Tensor nan = at::zeros({2, 3});
  nan[1][2] = std::numeric_limits<double>::quiet_NaN();
  expect_refused({
      {"another size",
       [&] {
         check_shape("h", x, {2, 4});
       },
       "h has to be of shape (2, 4), but got (2, 3)"},
      {"more dimensions",
       [&] {
         check_shape("h", x, {2, 3, 1});
       },
       "but got (2, 3)"},
      {"fewer dimensions", [&] { check_shape("h", x, {2}); }, "but got (2, 3)"},
      {"empty for any size",
       [&] {
         check_shape("h", at::zeros({0, 3}), {-1, 3});
       },
       "(0, 3)"},
      {"undefined", [&] { check_shape("h", {}, {2}); }, "an undefined tensor"},
      {"dtype", [&] { check_dtype("h", x, at::kLong); },
       "h has to be of dtype Long, but got Float"},
      {"undefined dtype", [&] { check_dtype("h", {}, at::kLong); }, "h has to be of dtype Long"},
      {"NaN", [&] { check_finite("h", nan); },
       "h has to be finite, but got 1 NaN or infinite of 6"},
      {"infinite", [&] { check_finite("h", at::full({2}, kInfinity)); }, "2 NaN or infinite of 2"},
      {"infinities that cancel",
       [&] {
         check_finite("h", at::tensor({kInfinity, -kInfinity, 0.0}));
       },
       "2 NaN or infinite"},
      {"integers", [&] { check_finite("h", at::zeros({2}, at::kLong)); }, "floating point"},
      {"undefined values", [&] { check_finite("h", {}); }, "an undefined tensor"},
  });
}

}  // namespace
}  // namespace diffmask
