#pragma once
/// \file
/// Gradients against central differences, in double precision:
///
///     df/dx_i ~ (f(x + step e_i) - f(x - step e_i)) / (2 step)
///
/// With step 1e-5 the rounding error is near 1e-11 and the truncation error near 1e-10 f''', so
/// that a tolerance of 1e-7 leaves room for sharp functions (a gate's f''' is of the order 1/tau^3)
/// and none for a wrong factor.

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <functional>

namespace diffmask {

/// f() is differentiated by `leaf`, a double leaf that f reads (a module's parameter, say).
inline void expect_gradient_at(const std::function<at::Tensor()>& f, at::Tensor leaf,
                               double tolerance = 1e-7, double step = 1e-5) {
  ASSERT_EQ(leaf.scalar_type(), at::kDouble);
  const at::Tensor analytic = torch::autograd::grad({f()}, {leaf})[0];
  at::Tensor numeric = at::empty_like(leaf, at::MemoryFormat::Contiguous);
  {
    at::NoGradGuard no_grad;
    ASSERT_TRUE(leaf.is_contiguous());
    double* x = leaf.data_ptr<double>();
    for (int64_t i = 0; i < leaf.numel(); ++i) {
      const double kept = x[i];
      x[i] = kept + step;
      const double above = f().item<double>();
      x[i] = kept - step;
      const double below = f().item<double>();
      x[i] = kept;
      numeric.data_ptr<double>()[i] = (above - below) / (2 * step);
    }
  }
  const double largest = numeric.abs().max().item<double>();
  EXPECT_GT(largest, 1e-4) << "a gradient of zero everywhere tests nothing";
  EXPECT_LT((analytic - numeric).abs().max().item<double>(), tolerance * std::max(1.0, largest))
      << "analytic " << analytic << "\nnumeric " << numeric;
}

/// f(x) is differentiated at `point`.
inline void expect_gradient(const std::function<at::Tensor(const at::Tensor&)>& f,
                            const at::Tensor& point, double tolerance = 1e-7) {
  const at::Tensor x = point.detach().to(at::kDouble).contiguous().clone().requires_grad_(true);
  expect_gradient_at([&] { return f(x); }, x, tolerance);
}

}  // namespace diffmask
