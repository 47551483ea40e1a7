#pragma once
/// \file
/// A probe reads hidden states and gives one gate logit a position.

#include <torch/nn/module.h>

namespace diffmask {

class Probe : public torch::nn::Module {
 public:
  /// logits = g_phi(h).
  /// Shape: features (B, P, F); examples (B) int64, each example's number in its data set; result
  /// (B, P).
  virtual at::Tensor logits(const at::Tensor& features, const at::Tensor& examples) = 0;

  /// Suits the first values to a sample of the states that will be read. Shape: features (N, F).
  virtual void start(const at::Tensor& /*features*/) {}

  /// Brings the parameters back into their allowed set, if there is one; called after each update.
  virtual void project() {}
};

}  // namespace diffmask
