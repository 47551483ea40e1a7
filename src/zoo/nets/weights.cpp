#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <map>
#include <string>

#include "diffmask/zoo/nets/weights.hpp"

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/format/safetensors.hpp"

namespace diffmask {
namespace {

std::map<std::string, at::Tensor> named_tensors(const torch::nn::Module& module) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& item : module.named_parameters()) tensors.emplace(item.key(), item.value());
  for (const auto& item : module.named_buffers()) tensors.emplace(item.key(), item.value());
  return tensors;
}

}  // namespace

void load_weights(torch::nn::Module& module, const std::string& path) {
  const Safetensors file = load_safetensors(path);
  const auto expected = named_tensors(module);
  for (const auto& [name, tensor] : expected) {
    const at::Tensor& stored = file.at(name);
    if (stored.sizes() != tensor.sizes() || stored.scalar_type() != tensor.scalar_type()) {
      throw FileError(
          path, fmt::format("tensor '{}' has to be {} {}, but is {} {}", name,
                            c10::toString(tensor.scalar_type()), shape_string(tensor.sizes()),
                            c10::toString(stored.scalar_type()), shape_string(stored.sizes())));
    }
  }
  for (const auto& [name, tensor] : file.tensors) {
    if (!expected.contains(name)) {
      throw FileError(path, fmt::format("tensor '{}' is not one of the module's", name));
    }
  }
  for (const auto& [name, dtype] : file.unread) {
    throw FileError(path,
                    fmt::format("tensor '{}' is of dtype {}, which is not read", name, dtype));
  }
  at::NoGradGuard no_grad;
  for (auto [name, tensor] : expected) tensor.copy_(file.at(name));
}

void save_weights(const torch::nn::Module& module, const std::string& path) {
  save_safetensors(path, named_tensors(module));
}

}  // namespace diffmask
