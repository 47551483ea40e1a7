#include "diffmask/zoo/tasks/counting_fit.hpp"

#include <ATen/ATen.h>

#include <memory>
#include <utility>

#include "diffmask/core/random.hpp"
#include "diffmask/objective/divergence.hpp"
#include "diffmask/probe/mlp.hpp"

namespace diffmask {
namespace {

enum CountingStream : uint64_t { kTask = 100, kRandomScores, kRandomSets };

}  // namespace

double CountingFit::accuracy() const {
  const at::Tensor logits = predict(*net, forward_of(net), validation.dataset());
  return logits.gt(0).eq(validation.labels).to(at::kDouble).mean().item<double>();
}

Subject CountingFit::subject(uint64_t seed) const {
  const auto fresh = std::make_shared<CountingNet>(make_generator(seed));
  fresh->eval();
  return {.model = staged(net),
          .data = std::make_shared<PaddedDataset>(validation.dataset()),
          .training = std::make_shared<PaddedDataset>(training.dataset()),
          .truth = validation.relevant(),
          .randomised = staged(fresh)};
}

ModuleForward forward_of(std::shared_ptr<const CountingNet> net) {
  return [net = std::move(net)](const Inputs& x) {
    return net->decide(net->encode(net->embed(x[0]), x[1]), x[2]);
  };
}

at::Tensor counting_loss(const at::Tensor& logits, const at::Tensor& labels) {
  return at::binary_cross_entropy_with_logits(logits, labels.to(logits.scalar_type()));
}

ExplainerOptions counting_explainer(Masking masking) {
  return {.masking = masking, .probe = mlp_probe({.initial_bias = 4.0})};
}

TrainerOptions counting_training(uint64_t seed, int64_t steps) {
  return {.epsilon = 0.05,
          .steps = steps,
          .batches = {.batch_size = 128},
          .divergence = divergence::bernoulli,
          .seed = seed,
          .recipe = recipe::counting()};
}

MethodSettings counting_settings(const std::string& method, uint64_t seed) {
  MethodSettings settings{.seed = seed,
                          .random_passes = 100,
                          .divergence = divergence::bernoulli,
                          .batches = {.batch_size = 128},
                          .draws = 2};
  if (method == "random") settings.seed = derive_seed(seed, kRandomScores);
  if (method == "random_search") settings.seed = derive_seed(seed, kRandomSets);
  if (method == "infomask") settings.beta = 0.3;
  return settings;
}

CountingFit fit_counting(uint64_t seed, const CountingFitOptions& options,
                         const std::vector<Callback>& callbacks) {
  const at::Generator generator = make_generator(derive_seed(seed, kTask));
  CountingFit task{make_counting(options.training, generator),
                   make_counting(options.validation, generator),
                   std::make_shared<CountingNet>(generator)};
  // Weight decay decides whether there is anything to find: docs/results.md, "Single choices of the
  // recipes".
  const SupervisedOptions training{.epochs = options.epochs,
                                   .batch_size = 64,
                                   .rate = 5e-3,
                                   .final_rate = 0.02,
                                   .weight_decay = 0.1,
                                   .seed = seed};
  train_supervised(*task.net, forward_of(task.net), counting_loss, task.training.dataset(),
                   task.validation.dataset(), training, callbacks);
  return task;
}

CountingFit read_counting_fit(const std::string& folder) {
  return {read_counting(folder + "/examples.csv", "train"),
          read_counting(folder + "/examples.csv", "validation"),
          load_counting_net(folder + "/model.safetensors")};
}

}  // namespace diffmask
