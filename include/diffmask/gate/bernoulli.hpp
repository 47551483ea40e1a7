#pragma once
/// \file
/// The Bernoulli gate: z in {0, 1}, P(z = 1) = sigmoid(logit). A sample has no gradient; estimators
/// that need one (REINFORCE, Williams 1992) take it from log q(z | logit).
///
///     DiffMask method(model, {.gate = std::make_shared<Bernoulli>()});

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bernoulli.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/sigmoid.h>

#include <utility>

#include "diffmask/gate/gate.hpp"

namespace diffmask {

class Bernoulli : public Gate {
 public:
  at::Tensor sample(const at::Tensor& logits, at::Generator generator) const override {
    at::NoGradGuard no_grad;
    const at::Tensor keep = at::sigmoid(logits).to(generator.device());
    return at::bernoulli(keep, std::move(generator)).to(logits.device());
  }

  at::Tensor mean(const at::Tensor& logits) const override { return at::sigmoid(logits); }

  at::Tensor log_expected_l0(const at::Tensor& logits) const override {
    return at::log_sigmoid(logits);
  }

  /// log q(z | logit) = z logsigmoid(logit) + (1 - z) logsigmoid(-logit), differentiable in the
  /// logits.
  at::Tensor log_prob(const at::Tensor& z, const at::Tensor& logits) const override {
    return z * at::log_sigmoid(logits) + (1 - z) * at::log_sigmoid(-logits);
  }

  Part part() const override { return {"bernoulli"}; }
};

}  // namespace diffmask
