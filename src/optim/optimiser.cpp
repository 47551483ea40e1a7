#include "diffmask/optim/optimiser.hpp"

#include <torch/optim/rmsprop.h>

namespace diffmask::optimiser {

OptimiserFactory rmsprop() {
  return [](const std::vector<ParameterGroup>& groups) {
    std::vector<torch::optim::OptimizerParamGroup> all;
    for (const ParameterGroup& group : groups) {
      all.emplace_back(group.parameters, std::make_unique<torch::optim::RMSpropOptions>(
                                             torch::optim::RMSpropOptions(group.rate)
                                                 .alpha(0.99)
                                                 .centered(group.name == "gates")));
    }
    return std::make_unique<torch::optim::RMSprop>(all, torch::optim::RMSpropOptions());
  };
}

const std::map<std::string, OptimiserFactory>& ready() {
  static const std::map<std::string, OptimiserFactory> all = {{"adam", adam(0.95)},
                                                              {"rmsprop", rmsprop()}};
  return all;
}

}  // namespace diffmask::optimiser
