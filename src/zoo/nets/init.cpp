#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/rnn.h>

#include "diffmask/zoo/nets/init.hpp"

#include <cmath>
#include <cstdint>
#include <string>

namespace diffmask {
namespace {

// A GRU's fan in is the size of its state, also for its input weights: with 1/sqrt(2), by the two
// inputs of the counting net, its gates start saturated and it does not learn the simple solution.
int64_t fan_in(const torch::nn::Module& module, const at::Tensor& weight) {
  if (const auto* gru = module.as<torch::nn::GRU>()) return gru->options_base.hidden_size();
  return weight[0].numel();
}

}  // namespace

// Goes from child to child, as modules() cannot be called within a constructor.
void initialise(torch::nn::Module& module, at::Generator generator) {
  at::NoGradGuard no_grad;
  for (auto& item : module.named_parameters(/*recurse=*/false)) {
    at::Tensor& parameter = item.value();
    if (module.as<torch::nn::Embedding>() != nullptr) {
      parameter.normal_(0.0, 1.0, generator);
    } else if (parameter.dim() >= 2) {
      const double range = 1.0 / std::sqrt(static_cast<double>(fan_in(module, parameter)));
      parameter.uniform_(-range, range, generator);
    } else if (item.key().find("bias") != std::string::npos) {
      parameter.zero_();
    } else {
      parameter.fill_(1.0);  // a norm's gain
    }
  }
  for (const auto& child : module.children()) initialise(*child, generator);
}

}  // namespace diffmask
