#pragma once
/// \file
/// A probe reads hidden states and gives one gate logit a position.

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>

namespace diffmask {

/// What a training step leaves out of what probes read, so that they do not learn examples by heart
/// (Srivastava et al. 2014): each number with probability `rate`; the others are scaled by
/// 1 / (1 - rate), which keeps their mean.
struct Dropout {
  double rate = 0.0;             ///< in [0, 1); 0 leaves all as it is
  at::Generator generator = {};  ///< where rate > 0, on the device of what is read

  at::Tensor operator()(const at::Tensor& x) const;
};

class Probe : public torch::nn::Module {
 public:
  /// logits = g_phi(h).
  /// Shape: features (B, P, F); examples (B) int64, each example's number in its data set; result
  /// (B, P).
  virtual at::Tensor logits(const at::Tensor& features, const at::Tensor& examples,
                            const Dropout& dropout = {}) = 0;

  /// Suits the first values to a sample of the states that will be read. Shape: features (N, F).
  virtual void start(const at::Tensor& /*features*/) {}

  /// Brings the parameters back into their allowed set, if there is one; called after each update.
  virtual void project() {}
};

}  // namespace diffmask
