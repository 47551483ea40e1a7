// Gates without a gradient, trained by REINFORCE.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <memory>

#include "diffmask/gate/bernoulli.hpp"
#include "diffmask/objective/reinforce.hpp"
#include "tests/train/trainer_fixture.hpp"

namespace diffmask {
namespace {

// Without lambda in its gradient (as in the public reference) the second run would close like the
// first: the penalty's gradient is the same in both.
TEST_F(TrainerTest, ReinforceWeighsTheDivergenceByLambda) {
  for (const bool per_sample : {false, true}) {
    const auto keep_at_the_end = [&](double multiplier) {
      TrainerOptions options = training_options(150);
      options.recipe.multiplier = {.initial = multiplier, .rate = 1e-9};
      options.recipe.warm_up = 0;
      const auto explainer = make_explainer(
          task_,
          {.probe = per_sample ? free_logits({.initial = 0.0}) : mlp_probe({.initial_bias = 0.0}),
           .gate = std::make_shared<Bernoulli>(),
           .baseline = {.learned = false}});
      return run(*explainer, options).history.back().depths[1].keep;
    };
    EXPECT_LT(keep_at_the_end(1e-6), 0.3) << per_sample;
    EXPECT_GT(keep_at_the_end(200), 0.7) << per_sample;
  }
}

// The trainer's estimate, from gates that an explainer drew, against enumeration of 2^8 masks.
TEST(ReinforceTest, DrawnGatesGiveTheEnumeratedGradient) {
  constexpr int64_t kPositions = 8, kDraws = 20'000;
  const at::Tensor weights = at::linspace(-1.0, 1.5, kPositions, at::kFloat);
  auto module = std::make_shared<torch::nn::Module>();
  module->eval();
  const StagedModel model(module,
                          {{"state", [](const at::Tensor& x, const Inputs&) { return x.clone(); }},
                           {"head", [&](const at::Tensor& h, const Inputs&) {
                              return (h.squeeze(2) * weights).sum(1);
                            }}});
  const at::Tensor states = at::ones({kDraws, kPositions, 1});
  const Batch batch{
      {states}, at::ones({kDraws, kPositions}, at::kBool), at::zeros({kDraws}, at::kLong)};
  const Recording recording = model.record(batch.inputs);
  const Explainer explainer(model,
                            {.sites = {"state"},
                             .probe = free_logits(),
                             .gate = std::make_shared<Bernoulli>(),
                             .baseline = {.start = BaselineOptions::Start::zero}},
                            recording, batch, {1, kPositions}, make_generator(0));
  at::Tensor logits = explainer.probe(0).parameters().at(0);
  {
    at::NoGradGuard no_grad;
    logits.copy_(at::linspace(-1.5, 2.0, kPositions).unsqueeze(0));
  }
  const double lambda = 3.0;
  const auto cost = [&](const at::Tensor& output) {
    return lambda *
           divergence::squared_error(at::full_like(output, weights.sum().item<double>()), output);
  };
  const at::Tensor bits = at::arange(256, at::kLong).unsqueeze(1);
  const at::Tensor masks =
      at::bitwise_and(bits, at::pow(2, at::arange(kPositions, at::kLong)).unsqueeze(0))
          .ne(0)
          .to(at::kFloat);
  const at::Tensor probability = Bernoulli().log_prob(masks, logits).sum(1).exp();
  const at::Tensor exact =
      torch::autograd::grad({(probability * cost((masks * weights).sum(1))).sum()}, {logits})[0];

  const Gates gates = explainer.gates(recording, batch, {0}, Draw::sample, make_generator(1))[0];
  const at::Tensor costs = cost(explainer.masked_output(model, recording, 0, gates.z)).detach();
  const at::Tensor control = at::full({kDraws}, 5.0);
  const at::Tensor found =
      torch::autograd::grad({score_function(costs, control, gates.log_prob)}, {logits})[0];
  // d log q / d logit = z - P: the spread of single estimates, and so of their mean.
  const at::Tensor single =
      (costs - control).unsqueeze(1) * (gates.z - at::sigmoid(logits).detach());
  const at::Tensor error = single.std(0) / std::sqrt(static_cast<double>(kDraws));
  EXPECT_LT(((found - exact).abs().squeeze(0) / error).max().item<double>(), 5.0)
      << found << exact << error;
  EXPECT_GT((exact.abs().squeeze(0) / error).max().item<double>(), 10.0) << "tests nothing";
}

}  // namespace
}  // namespace diffmask
