#pragma once
/// \file
/// REINFORCE (Williams 1992): the gradient of an expected cost over gates that are drawn and have
/// none of their own.
///
///     grad E_z[C(z)] = E_z[ (C(z) - c) grad log q(z) ]        for any c that z has no part in
///
/// For the Lagrangian R + lambda (D - eps) of a depth, C = lambda (D - eps): R is known in closed
/// form, and its own gradient is exact. A c near the mean of C takes away most of the variance
/// without moving the mean; here it is lambda times a running mean of D - eps over earlier draws:
///
///     m = decay m + (1 - decay) (D - eps),   c = lambda m,   m = 0 at the start
///
/// (The public reference's gradient of DiffMask's REINFORCE variant has no lambda, so that its
/// constraint cannot act.)

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdint>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

struct ControlVariateOptions {
  double decay = 0.9;  ///< of the running mean, in [0, 1]; 1: no control variate

  void validate() const { require(decay >= 0 && decay <= 1, "control.decay", "in [0, 1]", decay); }
};

/// mean_b (C_b - c_b) log q(z_b): its gradient in the parameters of q is an unbiased estimate of
/// that of mean_b E[C_b]; its value means nothing. Shape: cost, control, log_prob (B); gradients
/// flow to log_prob alone.
inline at::Tensor score_function(const at::Tensor& cost, const at::Tensor& control,
                                 const at::Tensor& log_prob) {
  check_shape("cost", cost, log_prob.sizes());
  check_shape("control", control, log_prob.sizes());
  return ((cost - control).detach() * log_prob).mean();
}

/// The running mean m: one for each example (per-sample gates), or one for all.
class ControlVariate {
 public:
  /// With `examples` = 0 one for all.
  ControlVariate(int64_t examples, ControlVariateOptions options)
      : options_(options),
        shared_(examples == 0),
        means_(at::zeros({std::max<int64_t>(examples, 1)}, at::kDouble)) {
    options_.validate();
    require(examples >= 0, "examples", ">= 0", examples);
  }

  /// Of the draws before, as `costs` are shaped. Shape: examples (B) int64, only read where each
  /// has a mean of its own; costs and result (B).
  at::Tensor values(const at::Tensor& examples, const at::Tensor& costs) const {
    const at::Tensor means = shared_ ? means_ : means_.index_select(0, examples.to(at::kCPU));
    return means.to(costs.options()).expand_as(costs);
  }

  /// Takes in this step's. Shape: costs (B).
  void update(const at::Tensor& examples, const at::Tensor& costs) {
    const at::Tensor now = costs.detach().to(at::kCPU, at::kDouble);
    if (shared_) {
      means_ = options_.decay * means_ + (1 - options_.decay) * now.mean();
      return;
    }
    const at::Tensor rows = examples.to(at::kCPU);
    means_.index_copy_(0, rows,
                       options_.decay * means_.index_select(0, rows) + (1 - options_.decay) * now);
  }

 private:
  ControlVariateOptions options_;
  bool shared_;
  at::Tensor means_;  // (examples), or (1), double, on the CPU
};

}  // namespace diffmask
