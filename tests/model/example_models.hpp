#pragma once
/// \file
/// Small models of every native kind, with the traps real ones set: in-place modules, buffers, a
/// later stage that reads the inputs again, a name that is tapped twice.

#include <torch/torch.h>

#include "diffmask/model/staged.hpp"
#include "diffmask/model/tapped.hpp"

namespace diffmask {

struct ExampleModel {
  std::string kind;
  std::shared_ptr<torch::nn::Module> module;
  std::shared_ptr<FrozenModel> model;
  Inputs inputs;
  std::shared_ptr<bool> fails = std::make_shared<bool>(false);  ///< makes the last stage throw
};

inline void fail_if(bool fails) {
  if (fails) throw std::domain_error("a stage's own exception");
}

inline torch::nn::Sequential example_layers(at::ScalarType dtype) {
  torch::nn::Sequential layers(
      torch::nn::Linear(3, 8), torch::nn::ReLU(torch::nn::ReLUOptions(/*inplace=*/true)),
      torch::nn::BatchNorm1d(8), torch::nn::Dropout(0.5), torch::nn::Linear(8, 8),
      torch::nn::ELU(torch::nn::ELUOptions().inplace(true)), torch::nn::Linear(8, 2));
  layers->to(dtype);
  layers->eval();
  return layers;
}

inline std::vector<ExampleModel> example_models(at::ScalarType dtype = at::kFloat) {
  at::manual_seed(5);
  const at::TensorOptions options(dtype);
  std::vector<ExampleModel> models;

  const auto sequential = example_layers(dtype);
  models.push_back({"sequential",
                    sequential.ptr(),
                    StagedModel::from(sequential.ptr()),
                    {at::randn({4, 3}, options)}});

  {  // The first stage writes into its input, a later one reads the second input.
    auto net = example_layers(dtype);
    ExampleModel staged{
        "staged", net.ptr(), nullptr, {at::randn({4, 3}, options), at::rand({4, 8}, options)}};
    using torch::nn::LinearImpl;
    const std::vector<Stage> stages = {
        {"scaled", [](const at::Tensor& x, const Inputs&) { return x.mul_(2); }},
        {"hidden", [net](const at::Tensor& x,
                         const Inputs&) { return net->ptr<LinearImpl>(0)->forward(x).relu_(); }},
        {"mixed",
         [net](const at::Tensor& x, const Inputs& inputs) {
           return net->ptr<LinearImpl>(4)->forward(x).mul_(inputs[1]);
         }},
        {"head", [net, fails = staged.fails](const at::Tensor& x, const Inputs&) {
           fail_if(*fails);
           return net->ptr<LinearImpl>(6)->forward(x);
         }}};
    staged.model = std::make_shared<StagedModel>(net.ptr(), stages);
    models.push_back(staged);
  }

  {  // One layer run twice, each state changed in place right after it was tapped.
    auto net = example_layers(dtype);
    ExampleModel tapped{"tapped", net.ptr(), nullptr, {at::randn({4, 3}, options)}};
    using torch::nn::LinearImpl;
    tapped.model = std::make_shared<TappedModel>(
        net.ptr(),
        [net, fails = tapped.fails](const Inputs& inputs, Tap& tap) {
          at::Tensor h = tap("first", net->ptr<LinearImpl>(0)->forward(inputs[0]));
          h.tanh_();
          for (int layer = 0; layer < 2; ++layer) {
            h = tap("layer", net->ptr<LinearImpl>(4)->forward(h));
            h.mul_(2).tanh_();
          }
          fail_if(*fails);
          return net->ptr<LinearImpl>(6)->forward(tap("last", h));
        },
        tapped.inputs);
    models.push_back(tapped);
  }
  return models;
}

}  // namespace diffmask
