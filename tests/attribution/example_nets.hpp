#pragma once
/// \file
/// Small nets to attribute, at the site "input", which is the input itself.

#include <torch/torch.h>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/model/staged.hpp"
#include "diffmask/model/tapped.hpp"

namespace diffmask {

/// A model of one input, from a function of the state at "input".
inline std::shared_ptr<StagedModel> net_of(std::function<at::Tensor(const at::Tensor&)> function) {
  auto module = std::make_shared<torch::nn::Module>();
  module->eval();
  const auto same = [](const at::Tensor& x, const Inputs&) { return x.clone(); };
  return std::make_shared<StagedModel>(
      module,
      std::vector<Stage>{
          {"input", same}, {"copy", same}, {"head", [function](const at::Tensor& x, const Inputs&) {
                                              return function(x);
                                            }}});
}

/// y = tanh(x W1) W2 over all positions at once, x (B, P, F): smooth, and far from linear.
inline std::shared_ptr<StagedModel> smooth_net(int64_t positions, int64_t features, int64_t classes,
                                               uint64_t seed) {
  const at::Generator generator = make_generator(seed);
  const at::Tensor first = at::randn({positions * features, 8}, generator);
  const at::Tensor second = at::randn({8, classes}, generator);
  return net_of([=](const at::Tensor& x) {
    return at::matmul(at::tanh(at::matmul(x.flatten(1), first)), second);
  });
}

inline Batch batch_of(const at::Tensor& x) {
  return {{x}, at::ones({x.size(0), x.size(1)}, at::kBool), {}, {}};
}

inline AttributionOptions at_input(Fill fill = fill::zero) {
  AttributionOptions options;
  options.sites = {"input"};
  options.fill = std::move(fill);
  return options;
}

}  // namespace diffmask
