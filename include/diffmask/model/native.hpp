#pragma once
/// \file
/// What staged and tapped models share: a native LibTorch module that they run but never change.

#include <torch/nn/module.h>

#include <map>
#include <memory>
#include <string>

#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

class Program;

class NativeModel : public FrozenModel {
 public:
  std::map<std::string, at::Tensor> tensors() const override;

  /// This model as a program with the same sites, for methods that go through a model operator by
  /// operator. It holds for inputs of these shapes, and where the forward branches on values, for
  /// these very inputs.
  std::shared_ptr<const Program> trace(const Inputs& inputs) const;

 protected:
  /// Throws ArgumentError where the module, or one within, is in training mode: dropout would make
  /// every pass another function. (Setting the mode here would change the user's model.)
  explicit NativeModel(std::shared_ptr<torch::nn::Module> module);
  void check_eval_mode() const;

 private:
  std::shared_ptr<torch::nn::Module> module_;
};

}  // namespace diffmask
