#include "diffmask/objective/reinforce.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

void ControlVariateOptions::validate() const {
  require(decay >= 0 && decay <= 1, "control.decay", "in [0, 1]", decay);
}

at::Tensor score_function(const at::Tensor& cost, const at::Tensor& control,
                          const at::Tensor& log_prob) {
  check_shape("cost", cost, log_prob.sizes());
  check_shape("control", control, log_prob.sizes());
  return ((cost - control).detach() * log_prob).mean();
}

ControlVariate::ControlVariate(int64_t examples, ControlVariateOptions options)
    : options_(options),
      shared_(examples == 0),
      means_(at::zeros({std::max<int64_t>(examples, 1)}, at::kDouble)) {
  options_.validate();
  require(examples >= 0, "examples", ">= 0", examples);
}

at::Tensor ControlVariate::values(const at::Tensor& examples, const at::Tensor& costs) const {
  const at::Tensor own = shared_ ? means_ : means_.index_select(0, examples.to(at::kCPU));
  return own.to(costs.options()).expand_as(costs);
}

void ControlVariate::update(const at::Tensor& examples, const at::Tensor& costs) {
  const at::Tensor now = costs.detach().to(at::kCPU, at::kDouble);
  if (shared_) {
    means_ = options_.decay * means_ + (1 - options_.decay) * now.mean();
    return;
  }
  const at::Tensor numbers = examples.to(at::kCPU);
  means_.index_copy_(0, numbers,
                     options_.decay * means_.index_select(0, numbers) + (1 - options_.decay) * now);
}

}  // namespace diffmask
