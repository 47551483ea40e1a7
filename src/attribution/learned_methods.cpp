#include "attribution/learned_methods.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/learned/gnn_explainer.hpp"
#include "diffmask/attribution/learned/infomask.hpp"
#include "diffmask/attribution/learned/information_bottleneck.hpp"
#include "diffmask/attribution/learned/noise_tolerance.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/gate/bernoulli.hpp"
#include "diffmask/probe/free_logits.hpp"

namespace diffmask {
namespace {

// The first of two numbers of steps that is not 0.
int64_t either(int64_t chosen, int64_t otherwise) { return chosen > 0 ? chosen : otherwise; }

BottleneckOptions noise_of(const MethodSettings& settings) {
  return {.beta = settings.beta,
          .divergence = settings.divergence,
          .floor = settings.noise_floor,
          .seed = settings.seed};
}

AmortisedOptions amortised_of(const MethodSettings& settings) {
  AmortisedOptions options{
      .batches = settings.batches, .seed = settings.seed, .callbacks = settings.callbacks};
  options.steps = either(settings.training_steps, options.steps);
  return options;
}

std::unique_ptr<Attributor> make_bottleneck(const MethodRequest& request) {
  InformationBottleneckOptions options{noise_of(request.settings)};
  options.steps = either(request.settings.example_steps, options.steps);
  options.draws = request.settings.draws;
  auto method =
      std::make_unique<InformationBottleneck>(request.model, request.options, std::move(options));
  method->fit(*request.training);
  return method;
}

std::unique_ptr<Attributor> make_read_out_bottleneck(const MethodRequest& request) {
  auto method = std::make_unique<ReadOutBottleneck>(request.model, request.options,
                                                    noise_of(request.settings));
  method->fit(*request.training, amortised_of(request.settings));
  return method;
}

std::unique_ptr<Attributor> make_noise_tolerance(const MethodRequest& request) {
  const MethodSettings& settings = request.settings;
  NoiseToleranceOptions options{.divergence = settings.divergence,
                                .draws = settings.draws,
                                .rate = settings.noise_rate,
                                .seed = settings.seed};
  options.steps = either(settings.example_steps, options.steps);
  return std::make_unique<NoiseTolerance>(request.model, request.options, std::move(options));
}

std::unique_ptr<Attributor> make_infomask(const MethodRequest& request) {
  auto method = std::make_unique<InfoMask>(
      request.model, request.options,
      InfoMaskOptions{.beta = request.settings.beta, .divergence = request.settings.divergence});
  method->fit(*request.training, amortised_of(request.settings));
  return method;
}

std::unique_ptr<Attributor> make_gnn_explainer(const MethodRequest& request) {
  GnnExplainerOptions options;
  options.steps = either(request.settings.example_steps, options.steps);
  return std::make_unique<GnnExplainer>(request.model, request.options, std::move(options));
}

enum class Gated { hard_concrete, reinforce };

ExplainerOptions explainer_of(const MethodRequest& request, Gated gated) {
  ExplainerOptions explainer = request.settings.explainer.value_or(ExplainerOptions{});
  if (explainer.sites.empty()) {
    explainer.sites = request.options.sites;
    explainer.positions = request.options.positions;
  }
  if (gated == Gated::reinforce) explainer.gate = std::make_shared<Bernoulli>();
  return explainer;
}

TrainerOptions trainer_of(const MethodSettings& settings, const Recipe& otherwise) {
  return {.epsilon = settings.epsilon,
          .batches = settings.batches,
          .divergence = settings.divergence,
          .seed = settings.seed,
          .callbacks = settings.callbacks,
          .recipe = settings.recipe.value_or(otherwise)};
}

template <Masking masking, Gated gated>
std::unique_ptr<Attributor> make_trained(const MethodRequest& request) {
  ExplainerOptions explainer = explainer_of(request, gated);
  explainer.masking = masking;
  TrainerOptions trainer = trainer_of(request.settings, recipe::log_odds());
  trainer.steps = either(request.settings.training_steps, trainer.steps);
  auto method = std::make_unique<DiffMask>(request.model, explainer);
  method->fit(*request.training, trainer);
  return method;
}

// Few logits, each of which has its own steps: they can be large.
Recipe per_sample_recipe() { return {.name = "per_sample", .warm_up = 20, .gate_rate = 0.2}; }

// A free logit for each position, fitted to each batch when it is explained.
class PerSample : public Attributor {
 public:
  PerSample(std::shared_ptr<const FrozenModel> model, const ExplainerOptions& explainer,
            TrainerOptions trainer)
      : model_(std::move(model)), untrained_(model_, explainer), trainer_(std::move(trainer)) {
    trainer_.validate();
  }

  Attribution attribute(const Batch& batch) const override {
    batch.validate();
    const BatchRows data(batch);
    // The recording, and the pass that explains.
    int64_t passes = 2;
    TrainerOptions trainer = trainer_;
    trainer.batches.batch_size = data.size();
    trainer.callbacks.emplace_back([&](const Progress& progress) {
      passes += passes_of(progress);
      return Action::proceed;
    });
    DiffMask method = untrained_;
    method.fit(data, trainer);
    Attribution result = method.attribute(data.batch(iota(data.size())));
    result.passes = passes * data.size();
    return result;
  }

 private:
  // One for each depth that was masked; validation masks all, by expected and by hard gates.
  int64_t passes_of(const Progress& progress) const {
    const auto depths = static_cast<int64_t>(untrained_.options().sites.size());
    if (progress.phase == Progress::Phase::warm_up) return depths;
    const auto trained = static_cast<int64_t>(progress.record->depths.size());
    return trained + (progress.validation != nullptr ? 2 * depths : 0);
  }

  std::shared_ptr<const FrozenModel> model_;
  DiffMask untrained_;
  TrainerOptions trainer_;
};

template <Gated gated>
std::unique_ptr<Attributor> make_per_sample(const MethodRequest& request) {
  constexpr int64_t kSteps = 100;
  ExplainerOptions explainer = explainer_of(request, gated);
  explainer.masking = Masking::hidden;
  explainer.probe = free_logits();
  TrainerOptions trainer = trainer_of(request.settings, per_sample_recipe());
  trainer.steps = either(request.settings.example_steps, kSteps);
  trainer.callbacks.clear();  // those are of training on data
  return std::make_unique<PerSample>(request.model, explainer, std::move(trainer));
}

}  // namespace

std::vector<Method> learned_methods() {
  using enum Gated;
  return {
      {.name = "bottleneck",
       .build = make_bottleneck,
       .needs_training = true,
       .fits_examples = true,
       .whole_output = true,
       .needs_gradients = true},
      {.name = "bottleneck_read_out",
       .build = make_read_out_bottleneck,
       .needs_training = true,
       .whole_output = true,
       .needs_gradients = true},
      {.name = "noise_tolerance",
       .build = make_noise_tolerance,
       .fits_examples = true,
       .whole_output = true,
       .needs_gradients = true},
      {.name = "infomask",
       .build = make_infomask,
       .needs_training = true,
       .whole_output = true,
       .needs_gradients = true},
      {.name = "gnn_explainer",
       .build = make_gnn_explainer,
       .fits_examples = true,
       .needs_gradients = true},
      {.name = "diffmask_hidden",
       .build = make_trained<Masking::hidden, hard_concrete>,
       .needs_training = true,
       .whole_output = true,
       .needs_gradients = true},
      {.name = "diffmask_input",
       .build = make_trained<Masking::input, hard_concrete>,
       .needs_training = true,
       .whole_output = true,
       .needs_gradients = true},
      {.name = "reinforce",
       .build = make_trained<Masking::hidden, reinforce>,
       .needs_training = true,
       .whole_output = true,
       .needs_gradients = true},
      {.name = "diffmask_per_sample",
       .build = make_per_sample<hard_concrete>,
       .fits_examples = true,
       .whole_output = true,
       .needs_gradients = true},
      {.name = "reinforce_per_sample",
       .build = make_per_sample<reinforce>,
       .fits_examples = true,
       .whole_output = true,
       .needs_gradients = true},
  };
}

}  // namespace diffmask
