// Numbers that are not finite: the error names the method, the site and the operator.
#include <gtest/gtest.h>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/core/shape.hpp"
#include "tests/attribution/rule_models.hpp"
#include "tests/bad_input.hpp"

namespace diffmask::not_finite_test {
namespace {

const AttributionOptions kScalar{.target = target::scalar};

Batch zeros() { return numbered_batch(at::zeros({2, 3, 5}, at::kDouble)); }

TEST(NotFiniteTest, NamesMethodSiteAndOperator) {
  const auto slope = model_of([](const at::Tensor& x) { return (x.sqrt() + x).sum({1, 2}); });
  const auto infinite = model_of([](const at::Tensor& x) {
    return x.exp().sub(1).log().sum({1, 2});
  });
  const auto nan = model_of([](const at::Tensor& x) { return (x.log() * x).sum({1, 2}); });
  // The mask's own infinity does no harm, and is not named.
  const auto masked = model_of([](const at::Tensor& x) {
    const at::Tensor weights = x.sum(2).masked_fill(at::arange(3).eq(0), -INFINITY).softmax(1);
    return (x.sqrt().sum(2) * weights).sum(1);
  });
  const auto run = [&](const char* name, const std::shared_ptr<const FrozenModel>& model) {
    return [=] { method(name).make(model, kScalar)->attribute(zeros()); };
  };
  expect_refused<NotFinite>({
      {"slope", run("gradient", slope), "gradient: features at 'x' has to be finite"},
      {"its operator", run("gradient", slope),
       "aten::sqrt is the first whose gradient is not finite"},
      {"infinity", run("leave_one_out", infinite), "leave_one_out: "},
      {"its operator", run("leave_one_out", infinite),
       "aten::log is the first that gives infinity"},
      {"NaN", run("integrated_gradients", nan),
       "aten::mul is the first that gives NaN, and aten::log infinity"},
      {"mask", run("gradient_x_input", masked), "aten::sqrt is the first whose gradient"},
  });
}

TEST(NotFiniteTest, ClassesCheckThemselves) {
  const auto slope = model_of([](const at::Tensor& x) { return (x.sqrt() + x).sum({1, 2}); });
  expect_refused<NotFinite>({
      {"gradients", [&] { Gradient(slope, kScalar).attribute(zeros()); },
       "features at 'x' has to be"},
  });
  AttributionOptions options = kScalar;
  options.nan_to_zero = true;
  const Attribution zeroed = Gradient(slope, options).attribute(zeros());
  EXPECT_GT(zeroed.zeroed, 0);
  EXPECT_TRUE(zeroed.scores.isfinite().all().item<bool>());
  EXPECT_EQ(method("gradient").make(slope, options)->attribute(zeros()).zeroed, zeroed.zeroed);
}

}  // namespace
}  // namespace diffmask::not_finite_test
