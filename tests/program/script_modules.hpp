// Modules written in TorchScript's own language, so that no Python is needed to make them.
#pragma once
#include <torch/script.h>

#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/random.hpp"

namespace diffmask {

inline torch::jit::Module module(
    const std::string& name, const std::string& forward,
    const std::vector<std::pair<std::string, torch::jit::Module>>& children = {},
    const std::vector<std::pair<std::string, at::Tensor>>& parameters = {}) {
  torch::jit::Module result(name);
  for (const auto& [child, value] : children) result.register_module(child, value);
  for (const auto& [parameter, value] : parameters) {
    result.register_parameter(parameter, value.clone().requires_grad_(true), /*is_buffer=*/false);
  }
  result.register_attribute("training", c10::BoolType::get(), false);
  result.define(forward);
  return result;
}

inline torch::jit::Module linear(int64_t in, int64_t out, uint64_t seed) {
  const auto generator = make_generator(seed);
  return module("Linear",
                "def forward(self, x):\n  return torch.matmul(x, self.w) + self.b\n"
                "def forward1(self, x):\n  return torch.matmul(x, self.w) + self.b\n",
                {}, {{"w", at::randn({in, out}, generator)}, {"b", at::randn({out}, generator)}});
}

}  // namespace diffmask
