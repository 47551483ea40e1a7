#pragma once
/// \file
/// The amortised probe of De Cao et al. 2020 (section 3, "Amortization"):
///
///     a = w2 tanh(W1 h + b1) + b2,   logit = a   or   logit = bound tanh(a) + bias
///
/// both linear maps with weight normalisation (Salimans and Kingma 2016), optionally after a layer
/// norm.

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>

#include "diffmask/probe/probe.hpp"

namespace diffmask {

struct MlpProbeOptions {
  int64_t hidden_size = 0;    ///< 0: max(F / 4, 32), F the number of features; the paper: F / 4
  double initial_bias = 5.0;  ///< the logit to begin near; 5 is a keep probability of 0.995
  double bound = 0.0;  ///< 0: raw logits; else bound * tanh(.) + a learned bias; the reference: 10
  bool layer_norm = false;  ///< normalise the features of a position first

  void validate() const;
};

/// y = g v / ||v|| x + b, a norm a row.
class WeightNormLinear : public torch::nn::Module {
 public:
  WeightNormLinear(int64_t in, int64_t out, at::Generator generator);
  at::Tensor forward(const at::Tensor& x) const;

  /// Data-dependent initialisation (Salimans and Kingma 2016, section 3): g and b such that each
  /// output has mean 0 and variance 1 over the sample. Shape: x (N, in).
  void normalise(const at::Tensor& x);

  at::Tensor bias;

 private:
  at::Tensor direction_, norm_;
};

class MlpProbe : public Probe {
 public:
  MlpProbe(int64_t features, MlpProbeOptions options, at::Generator generator);
  /// Dropout is of the features, after their layer norm.
  at::Tensor logits(const at::Tensor& features, const at::Tensor& examples,
                    const Dropout& dropout = {}) override;

  /// Without this, tanh would see whatever scale the model's states have.
  void start(const at::Tensor& features) override;

 private:
  at::Tensor read(const at::Tensor& features) const;

  MlpProbeOptions options_;
  std::shared_ptr<WeightNormLinear> hidden_, out_;
  at::Tensor bias_;  // of the bounded form only
};

}  // namespace diffmask
