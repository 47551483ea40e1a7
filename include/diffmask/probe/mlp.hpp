#pragma once
/// \file
/// The amortised probe of De Cao et al. 2020 (section 3, "Amortization"):
///
///     a = w2 tanh(W1 h + b1) + b2,   logit = a   or   logit = bound tanh(a) + bias
///
/// both linear maps with weight normalisation (Salimans and Kingma 2016), optionally after a layer
/// norm.
///
///     DiffMask method(model, {.probe = mlp_probe({.hidden_size = 64})});

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_weight_norm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/probe/probe.hpp"

namespace diffmask {

struct MlpProbeOptions {
  int64_t hidden_size = 0;    ///< 0: max(F / 4, 32), F the number of features; the paper: F / 4
  double initial_bias = 5.0;  ///< the logit to begin near; 5 is a keep probability of 0.995
  double bound = 0.0;  ///< 0: raw logits; else bound * tanh(.) + a learned bias; the reference: 10
  bool layer_norm = false;  ///< normalise the features of a position first

  void validate() const {
    require(hidden_size >= 0, "hidden_size", ">= 0 (0: max(F / 4, 32))", hidden_size);
    require(std::isfinite(initial_bias), "initial_bias", "finite", initial_bias);
    require(std::isfinite(bound) && bound >= 0, "bound", ">= 0 (0: none)", bound);
  }

  template <typename Visit>
  void visit(Visit visit) {
    visit("hidden_size", hidden_size);
    visit("initial_bias", initial_bias);
    visit("bound", bound);
    visit("layer_norm", layer_norm);
  }
};

/// y = g v / ||v|| x + b, one norm per row.
class WeightNormLinear : public torch::nn::Module {
 public:
  WeightNormLinear(int64_t in, int64_t out, at::Generator generator) {
    const double range = 1.0 / std::sqrt(static_cast<double>(in));
    const at::Tensor weight = at::empty({out, in}).uniform_(-range, range, generator);
    norm_ = register_parameter("norm", weight.norm(2, {1}, /*keepdim=*/true));
    direction_ = register_parameter("direction", weight);
    bias = register_parameter("bias", at::empty({out}).uniform_(-range, range, generator));
  }

  at::Tensor forward(const at::Tensor& x) const {
    return at::linear(x, at::_weight_norm(direction_, norm_, 0), bias);
  }

  /// Data-dependent initialisation (Salimans and Kingma 2016, section 3): g and b such that each
  /// output has mean 0 and variance 1 over the sample. Shape: x (N, in).
  void normalise(const at::Tensor& x) {
    at::NoGradGuard no_grad;
    norm_.fill_(1.0);
    bias.zero_();
    const at::Tensor y = forward(x);
    // A direction in which all states agree has no scale to undo.
    const at::Tensor deviation = y.std(0, /*unbiased=*/false);
    const at::Tensor scale =
        at::where(deviation.gt(1e-6), deviation.reciprocal(), at::ones_like(deviation));
    norm_.copy_(scale.unsqueeze(1));
    bias.copy_(-y.mean(0) * scale);
  }

  at::Tensor bias;

 private:
  at::Tensor direction_, norm_;
};

class MlpProbe : public Probe {
 public:
  MlpProbe(int64_t features, MlpProbeOptions options, at::Generator generator) : options_(options) {
    options_.validate();
    require(features >= 1, "features", ">= 1", features);
    const int64_t size =
        options_.hidden_size > 0 ? options_.hidden_size : std::max<int64_t>(features / 4, 32);
    hidden_ =
        register_module("hidden", std::make_shared<WeightNormLinear>(features, size, generator));
    out_ = register_module("out", std::make_shared<WeightNormLinear>(size, 1, generator));
    at::NoGradGuard no_grad;
    if (options_.bound > 0) {
      bias_ = register_parameter("bias", at::full({1}, options_.initial_bias));
    } else {
      out_->bias.fill_(options_.initial_bias);
    }
  }

  /// Dropout is of the features, after their layer norm.
  at::Tensor logits(const ProbeStates& states, const Dropout& dropout = {}) override {
    const at::Tensor hidden = at::tanh(hidden_->forward(dropout(read(states.features))));
    const at::Tensor raw = out_->forward(hidden).squeeze(-1);
    return options_.bound > 0 ? options_.bound * at::tanh(raw) + bias_ : raw;
  }

  /// Without this, tanh would see whatever scale the model's states have.
  void start(const at::Tensor& features) override { hidden_->normalise(read(features)); }

  bool shift(double by) override {
    at::NoGradGuard no_grad;
    (options_.bound > 0 ? bias_ : out_->bias).add_(by);
    return true;
  }

 private:
  at::Tensor read(const at::Tensor& features) const {
    return options_.layer_norm ? at::layer_norm(features, {features.size(-1)}) : features;
  }

  MlpProbeOptions options_;
  std::shared_ptr<WeightNormLinear> hidden_, out_;
  at::Tensor bias_;  // of the bounded form only
};

/// One MLP for each depth.
inline ProbeFactory mlp_probe(MlpProbeOptions options = {}) {
  options.validate();
  return {.make =
              [options](const ProbeInput& input, at::Generator generator) {
                return std::make_shared<MlpProbe>(input.features, options, std::move(generator));
              },
          .part = part_of("mlp", options)};
}

}  // namespace diffmask
