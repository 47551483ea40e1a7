#pragma once
/// \file
/// The Bernoulli gate: z in {0, 1}, P(z = 1) = sigmoid(logit). A sample has no gradient; estimators
/// that need one (REINFORCE, Williams 1992) take it from log q(z | logit).

#include "diffmask/gate/gate.hpp"

namespace diffmask {

class Bernoulli : public Gate {
 public:
  at::Tensor sample(const at::Tensor& logits, at::Generator generator) const override;
  at::Tensor mean(const at::Tensor& logits) const override;
  at::Tensor log_expected_l0(const at::Tensor& logits) const override;

  /// log q(z | logit) = z logsigmoid(logit) + (1 - z) logsigmoid(-logit), differentiable in the
  /// logits.
  at::Tensor log_prob(const at::Tensor& z, const at::Tensor& logits) const override;
};

}  // namespace diffmask
