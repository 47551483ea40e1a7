#include "diffmask/probe/mlp.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "diffmask/core/error.hpp"

namespace diffmask {

at::Tensor Dropout::operator()(const at::Tensor& x) const {
  if (rate == 0) return x;
  return x * at::empty_like(x).bernoulli_(1 - rate, generator).div_(1 - rate);
}

void MlpProbeOptions::validate() const {
  require(hidden_size >= 0, "hidden_size", ">= 0 (0: max(F / 4, 32))", hidden_size);
  require(std::isfinite(initial_bias), "initial_bias", "finite", initial_bias);
  require(std::isfinite(bound) && bound >= 0, "bound", ">= 0 (0: none)", bound);
}

WeightNormLinear::WeightNormLinear(int64_t in, int64_t out, at::Generator generator) {
  const double range = 1.0 / std::sqrt(static_cast<double>(in));
  const at::Tensor weight = at::empty({out, in}).uniform_(-range, range, generator);
  norm_ = register_parameter("norm", weight.norm(2, {1}, /*keepdim=*/true));
  direction_ = register_parameter("direction", weight);
  bias = register_parameter("bias", at::empty({out}).uniform_(-range, range, generator));
}

at::Tensor WeightNormLinear::forward(const at::Tensor& x) const {
  return at::linear(x, at::_weight_norm(direction_, norm_, 0), bias);
}

void WeightNormLinear::normalise(const at::Tensor& x) {
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

MlpProbe::MlpProbe(int64_t features, MlpProbeOptions options, at::Generator generator)
    : options_(options) {
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

at::Tensor MlpProbe::read(const at::Tensor& features) const {
  return options_.layer_norm ? at::layer_norm(features, {features.size(-1)}) : features;
}

void MlpProbe::start(const at::Tensor& features) { hidden_->normalise(read(features)); }

at::Tensor MlpProbe::logits(const at::Tensor& features, const at::Tensor&, const Dropout& dropout) {
  const at::Tensor hidden = at::tanh(hidden_->forward(dropout(read(features))));
  const at::Tensor raw = out_->forward(hidden).squeeze(-1);
  return options_.bound > 0 ? options_.bound * at::tanh(raw) + bias_ : raw;
}

}  // namespace diffmask
