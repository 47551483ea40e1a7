#pragma once
/// \file
/// Descent of named groups of parameters by any of LibTorch's optimisers.
///
///     Descent descent(optimiser::adam(),
///                     {{"gates", probes, 0.01}, {"baselines", vectors, 0.005}});
///     descent.step(loss);
///
/// Gradients are asked for by name, since backward() would also write into the frozen model's
/// parameters.

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/optim/adam.h>

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {

/// Parameters that share a step size.
struct ParameterGroup {
  std::string name;  ///< "gates", "baselines"
  std::vector<at::Tensor> parameters;
  double rate = 1e-3;  ///< step size, > 0
};

/// Makes an optimiser with one group for each of these, in this order.
using OptimiserFactory = std::function<std::unique_ptr<torch::optim::Optimizer>(
    const std::vector<ParameterGroup>& groups)>;

namespace optimiser {

/// Adam (Kingma and Ba 2015). beta2, in (0, 1), is the decay of second moments.
inline OptimiserFactory adam(double beta2 = 0.999) {
  require(beta2 > 0 && beta2 < 1, "beta2", "in (0, 1)", beta2);
  return [beta2](const std::vector<ParameterGroup>& groups) {
    std::vector<torch::optim::OptimizerParamGroup> all;
    for (const ParameterGroup& group : groups) {
      all.emplace_back(group.parameters,
                       std::make_unique<torch::optim::AdamOptions>(
                           torch::optim::AdamOptions(group.rate).betas({0.9, beta2})));
    }
    return std::make_unique<torch::optim::Adam>(all, torch::optim::AdamOptions());
  };
}

/// RMSprop with the reference's decay, 0.99; second moments are centred for "gates" alone, as
/// there.
OptimiserFactory rmsprop();

/// "adam" (forgets fast, beta2 = 0.95), "rmsprop".
const std::map<std::string, OptimiserFactory>& ready();

}  // namespace optimiser

class Descent {
 public:
  /// ArgumentError where the factory gives another number of groups.
  Descent(const OptimiserFactory& factory, std::vector<ParameterGroup> groups)
      : groups_(std::move(groups)) {
    require(factory != nullptr, "optimiser", "a function", "none");
    optimiser_ = factory(groups_);
    const size_t made = optimiser_ ? optimiser_->param_groups().size() : 0;
    require(made == groups_.size(), "optimiser", fmt::format("of {} groups", groups_.size()), made);
    for (const ParameterGroup& group : groups_) {
      parameters_.insert(parameters_.end(), group.parameters.begin(), group.parameters.end());
    }
  }

  /// One update down the gradient of `loss`, with `share` of each group's step size.
  void step(const at::Tensor& loss, double share = 1.0) {
    step(torch::autograd::grad({loss}, parameters_, {}, /*retain_graph=*/false,
                               /*create_graph=*/false, /*allow_unused=*/true),
         share);
  }

  /// The same with gradients that are known, one for each parameter; undefined: not moved.
  void step(const std::vector<at::Tensor>& gradients, double share = 1.0) {
    for (size_t i = 0; i < groups_.size(); ++i) {
      optimiser_->param_groups()[i].options().set_lr(share * groups_[i].rate);
    }
    for (size_t i = 0; i < parameters_.size(); ++i) {
      parameters_[i].mutable_grad() = gradients.at(i);
    }
    optimiser_->step();
  }

  /// Takes the last gradients off the parameters.
  void clear() {
    for (at::Tensor& parameter : parameters_) parameter.mutable_grad() = at::Tensor();
  }

  /// Of all groups, in their order.
  const std::vector<at::Tensor>& parameters() const { return parameters_; }

 private:
  std::vector<ParameterGroup> groups_;
  std::vector<at::Tensor> parameters_;
  std::unique_ptr<torch::optim::Optimizer> optimiser_;
};

}  // namespace diffmask
