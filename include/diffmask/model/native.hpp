#pragma once
/// \file
/// What staged and tapped models share: a native LibTorch module that they run but never change.
///
/// The module is handed over as it is: as a shared pointer or as a holder made by TORCH_MODULE,
/// const or not.
///
///     auto net = std::make_shared<NetImpl>();        // or: Net net;  or: const Net net;
///     StagedModel model(net, stages);
///     TappedModel other(net, forward, example_inputs);

#include <torch/nn/module.h>

#include <concepts>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

class Program;

/// A shared module that is not changed, made of whatever holds one. Null where that is empty.
template <typename Module>
class ModulePtr {
 public:
  ModulePtr(std::nullptr_t) {}

  template <typename Held>
  requires std::convertible_to<Held*, const Module*> ModulePtr(std::shared_ptr<Held> module)
      : module_(std::move(module)) {}

  template <typename Impl>
  requires std::convertible_to<Impl*, const Module*> ModulePtr(
      const torch::nn::ModuleHolder<Impl>& holder)
      : module_(holder.is_empty() ? nullptr : holder.ptr()) {}

  const std::shared_ptr<const Module>& ptr() const { return module_; }

 private:
  std::shared_ptr<const Module> module_;
};

/// The shared pointer in a holder, or the pointer itself. Null where it is empty.
template <typename Module>
std::shared_ptr<Module> shared_module(std::shared_ptr<Module> module) {
  return module;
}
template <typename Impl>
std::shared_ptr<Impl> shared_module(const torch::nn::ModuleHolder<Impl>& holder) {
  return holder.is_empty() ? nullptr : holder.ptr();
}

/// Net of std::shared_ptr<Net>, const Net of std::shared_ptr<const Net>, NetImpl of a holder.
template <typename Holder>
using ModuleOf = typename decltype(shared_module(std::declval<const Holder&>()))::element_type;

class NativeModel : public FrozenModel {
 public:
  std::map<std::string, at::Tensor> tensors() const override;

  /// This model as a program with the same sites. It holds for inputs of these shapes, and where
  /// the forward branches on values, for these very inputs.
  std::shared_ptr<const Program> trace(const Inputs& inputs) const;

  /// `trace(inputs)`.
  std::shared_ptr<const Program> program(const Inputs& inputs) const override;

 protected:
  /// Throws ArgumentError where the module, or one within, is in training mode: dropout would make
  /// every pass another function. (Setting the mode here would change the user's model.)
  explicit NativeModel(const ModulePtr<torch::nn::Module>& module);
  void check_eval_mode() const;

 private:
  std::shared_ptr<const torch::nn::Module> module_;
};

}  // namespace diffmask
