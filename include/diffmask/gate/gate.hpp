#pragma once
/// \file
/// A gate turns a logit into z in [0, 1], and knows how likely z is not 0.
///
///     z ~ q(z | logit),   E[z | logit],   log P(z != 0 | logit)
///
/// The mask that an explainer puts on a state is made of these. A gate of one's own is a class with
/// three functions, handed over as ExplainerOptions::gate:
///
///     DiffMask method(model, {.gate = std::make_shared<MyGate>()});
///
/// All functions work elementwise on tensors of any shape, and give that shape.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "diffmask/core/part.hpp"

namespace diffmask {

class Gate {
 public:
  virtual ~Gate() = default;

  /// z ~ q(z | logit); differentiable in the logits where the distribution allows it.
  virtual at::Tensor sample(const at::Tensor& logits, at::Generator generator) const = 0;

  /// E[z], without randomness.
  virtual at::Tensor mean(const at::Tensor& logits) const = 0;

  /// log P(z != 0): the log of the keep probability, which is the gate's expected L0 norm.
  virtual at::Tensor log_expected_l0(const at::Tensor& logits) const = 0;

  /// log q(z | logit), differentiable in the logits, of gates whose samples have no gradient: what
  /// REINFORCE needs of them (objective/reinforce.hpp). Undefined for others.
  virtual at::Tensor log_prob(const at::Tensor& /*z*/, const at::Tensor& /*logits*/) const {
    return {};
  }

  /// Its name and options, by which an explainer file has it made again; none: it cannot be saved.
  virtual Part part() const { return {}; }
};

/// Makes a gate from what a file says of it.
using GateFactory = std::function<std::shared_ptr<const Gate>(const Part& part)>;

}  // namespace diffmask
