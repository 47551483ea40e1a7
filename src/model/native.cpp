#include "diffmask/model/native.hpp"

#include <ATen/ATen.h>

#include "diffmask/core/error.hpp"

namespace diffmask {

NativeModel::NativeModel(const ModulePtr<torch::nn::Module>& module) : module_(module.ptr()) {
  require(module_ != nullptr, "module", "a module", "a null pointer");
  check_eval_mode();
}

std::map<std::string, at::Tensor> NativeModel::tensors() const {
  std::map<std::string, at::Tensor> all;
  for (const auto& item : module_->named_parameters()) all.emplace(item.key(), item.value());
  for (const auto& item : module_->named_buffers()) all.emplace(item.key(), item.value());
  return all;
}

void NativeModel::check_eval_mode() const {
  for (const auto& item : module_->named_modules("model")) {
    require(!item.value()->is_training(), item.key(), "in evaluation mode (call model->eval())",
            "training mode");
  }
}

}  // namespace diffmask
