// The counting task's data and models, and how they are explained.
#pragma once
#include <fmt/format.h>

#include <memory>
#include <string>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/zoo/nets/counting_net.hpp"
#include "diffmask/zoo/nets/supervised.hpp"

struct Task {
  diffmask::CountingData training, validation;
  std::shared_ptr<diffmask::CountingNet> net;
};

inline diffmask::ModuleForward forward_of(const std::shared_ptr<diffmask::CountingNet>& net) {
  return [net](const diffmask::Inputs& x) {
    return net->decide(net->encode(net->embed(x[0]), x[1]), x[2]);
  };
}

inline double accuracy(const at::Tensor& logits, const at::Tensor& labels) {
  return logits.gt(0).eq(labels).to(at::kDouble).mean().item<double>();
}

inline Task given_task(const std::string& folder) {
  return {diffmask::read_counting(folder + "/examples.csv", "train"),
          diffmask::read_counting(folder + "/examples.csv", "validation"),
          diffmask::load_counting_net(folder + "/model.safetensors")};
}

inline Task own_task(uint64_t seed) {
  const at::Generator generator = diffmask::make_generator(diffmask::derive_seed(seed, 100));
  Task task{diffmask::make_counting(9000, generator), diffmask::make_counting(1000, generator),
            std::make_shared<diffmask::CountingNet>(generator)};
  // Weight decay decides whether there is anything to find: docs/recipe.md, "The model matters".
  diffmask::SupervisedOptions options{.epochs = 30,
                                      .batch_size = 64,
                                      .rate = 5e-3,
                                      .final_rate = 0.02,
                                      .weight_decay = 0.1,
                                      .seed = seed};
  const auto data = task.training.dataset();
  const diffmask::SupervisedLoss loss = [](const at::Tensor& logits, const at::Tensor& labels) {
    return at::binary_cross_entropy_with_logits(logits, labels.to(logits.scalar_type()));
  };
  const auto summary = diffmask::train_supervised(*task.net, forward_of(task.net), loss, data,
                                                  task.validation.dataset(), options,
                                                  {diffmask::progress_bar("model")});
  fmt::print(stderr, "model trained in {:.1f} s\n", summary.seconds);
  return task;
}

inline diffmask::ExplainerOptions counting_explainer() {
  diffmask::ExplainerOptions explainer;
  explainer.probe.initial_bias = 4.0;
  return explainer;
}

/// The recipe of docs/recipe.md.
inline diffmask::TrainerOptions counting_recipe(uint64_t seed, int64_t steps) {
  diffmask::TrainerOptions trainer;
  trainer.epsilon = 0.05;
  trainer.divergence = diffmask::divergence::bernoulli;
  trainer.steps = steps;
  trainer.final_rate = 0.2;
  trainer.batches.batch_size = 128;
  trainer.seed = seed;
  return trainer;
}
