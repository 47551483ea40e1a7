#include "diffmask/gate/bernoulli.hpp"

#include <ATen/ATen.h>

#include <utility>

namespace diffmask {

at::Tensor Bernoulli::sample(const at::Tensor& logits, at::Generator generator) const {
  at::NoGradGuard no_grad;
  return at::bernoulli(at::sigmoid(logits), std::move(generator));
}

at::Tensor Bernoulli::mean(const at::Tensor& logits) const { return at::sigmoid(logits); }

at::Tensor Bernoulli::log_expected_l0(const at::Tensor& logits) const {
  return at::log_sigmoid(logits);
}

at::Tensor Bernoulli::log_prob(const at::Tensor& z, const at::Tensor& logits) const {
  return z * at::log_sigmoid(logits) + (1 - z) * at::log_sigmoid(-logits);
}

}  // namespace diffmask
