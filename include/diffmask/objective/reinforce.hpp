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

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace diffmask {

struct ControlVariateOptions {
  double decay = 0.9;  ///< of the running mean, in [0, 1]; 1: no control variate

  void validate() const;
};

/// mean_b (C_b - c_b) log q(z_b): its gradient in the parameters of q is an unbiased estimate of
/// that of mean_b E[C_b]; its value means nothing. Shape: cost, control, log_prob (B); gradients
/// flow to log_prob alone.
at::Tensor score_function(const at::Tensor& cost, const at::Tensor& control,
                          const at::Tensor& log_prob);

/// The running mean m: one for each example (per-sample gates), or one for all.
class ControlVariate {
 public:
  /// With `examples` = 0 one for all.
  ControlVariate(int64_t examples, ControlVariateOptions options);

  /// Of the draws before, as `costs` are shaped. Shape: examples (B) int64, only read where each
  /// has a mean of its own; costs and result (B).
  at::Tensor values(const at::Tensor& examples, const at::Tensor& costs) const;

  /// Takes in this step's. Shape: costs (B).
  void update(const at::Tensor& examples, const at::Tensor& costs);

 private:
  ControlVariateOptions options_;
  bool shared_;
  at::Tensor means_;  // (examples), or (1), double, on the CPU
};

}  // namespace diffmask
