#pragma once
/// \file
/// What the tests of explainers have in common: a model of three sites, and a batch of it.

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <memory>
#include <vector>

#include "diffmask/core/random.hpp"
#include "diffmask/mask/explainer.hpp"
#include "diffmask/model/staged.hpp"

namespace diffmask {

// Positions that are embedded, mixed with their neighbours and summed, in double precision; sites
// "low" (B, T, 4), "middle" (B, T, 4) and "high" (B, T, 2). Row 1 ends with padding.
class ExplainerTest : public testing::Test {
 protected:
  ExplainerTest() {
    using torch::nn::LinearImpl;
    at::manual_seed(3);
    torch::nn::Sequential net(torch::nn::Linear(3, 4), torch::nn::Linear(4, 2));
    net->to(at::kDouble);
    net->eval();
    const auto linear = [net](size_t i) { return net->ptr<LinearImpl>(i); };
    model_ = std::make_shared<StagedModel>(
        net.ptr(),
        std::vector<Stage>{
            {"low", [=](const at::Tensor& x, const Inputs&) { return linear(0)->forward(x); }},
            {"middle",
             [](const at::Tensor& h, const Inputs&) { return at::tanh(h + h.roll(1, 1)); }},
            {"high", [=](const at::Tensor& h, const Inputs&) { return linear(1)->forward(h); }},
            {"head", [](const at::Tensor& h, const Inputs& x) {
               return (h * x[1].unsqueeze(-1)).sum(1);
             }}});
    batch_.mask = at::tensor({1, 1, 1, 1, 1, 0}).view({2, 3}).to(at::kBool);
    batch_.inputs = {at::randn({2, 3, 3}, make_generator(1), at::TensorOptions(at::kDouble)),
                     batch_.mask};
    batch_.examples = at::tensor({4, 1}, at::kLong);
    recording_ = model_->record(batch_.inputs);
  }

  std::unique_ptr<Explainer> make(ExplainerOptions options = {}, uint64_t seed = 7) const {
    return std::make_unique<Explainer>(*model_, options, recording_, batch_, Capacity{5, 3},
                                       make_generator(seed));
  }

  // With free logits everything is known: every logit of a depth is the one given.
  std::unique_ptr<Explainer> with_logits(Masking masking, const std::vector<double>& logits) const {
    auto explainer = make({.masking = masking, .probe = free_logits()});
    at::NoGradGuard no_grad;
    for (size_t depth = 0; depth < logits.size(); ++depth) {
      const auto table = explainer->probe(static_cast<int64_t>(depth)).parameters();
      at::Tensor(table.at(0)).fill_(logits[depth]);
    }
    return explainer;
  }

  std::shared_ptr<FrozenModel> model_;
  Batch batch_;
  Recording recording_;
};

}  // namespace diffmask
