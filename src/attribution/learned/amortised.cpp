#include "diffmask/attribution/learned/amortised.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/optim/adam.h>

#include <chrono>
#include <cmath>
#include <utility>

#include "attribution/learned/free_noise.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

enum class AmortisedStream : uint64_t { probes, cut, order, draws };

// All sites' states side by side. Shape: (B, P, F).
at::Tensor side_by_side(const AttributionOptions& options, const Recording& recording,
                        const Batch& batch) {
  std::vector<at::Tensor> features;
  for (size_t depth = 0; depth < options.sites.size(); ++depth) {
    const at::Tensor& state = recording.state(options.sites[depth]);
    options.check_state(depth, state, batch);
    features.push_back(options.positions_of(depth).features(state));
  }
  return at::cat(features, 2);
}

}  // namespace

void AmortisedOptions::validate() const {
  require(steps >= 1, "steps", ">= 1", steps);
  require(std::isfinite(rate) && rate > 0, "rate", "> 0", rate);
  require(final_rate > 0 && final_rate <= 1, "final_rate", "in (0, 1]", final_rate);
  batches.validate();
}

void AmortisedProbes::fit(const FrozenModel& model, const AttributionOptions& options,
                          const MlpProbeOptions& probe, const Dataset& data,
                          const AmortisedOptions& amortised, const Loss& loss,
                          const std::vector<Callback>& callbacks) {
  amortised.validate();
  const auto began = std::chrono::steady_clock::now();
  const auto stream = [&](AmortisedStream s) {
    return derive_seed(amortised.seed, static_cast<uint64_t>(s));
  };
  RecordedBatches batches(model, data, options.sites, amortised.batches,
                          make_generator(stream(AmortisedStream::cut)));
  const at::Generator order = make_generator(stream(AmortisedStream::order)),
                      starts = make_generator(stream(AmortisedStream::probes)),
                      draws = make_generator(stream(AmortisedStream::draws), model.device());
  AmortisedProbes fresh;
  std::vector<at::Tensor> parameters;
  const auto first = batches.at(0);
  const at::Tensor sample =
      side_by_side(options, first->recording, first->batch).index({first->batch.mask});
  for (size_t depth = 0; depth < options.sites.size(); ++depth) {
    fresh.probes_.push_back(std::make_shared<MlpProbe>(sample.size(1), probe, starts));
    fresh.probes_.back()->to(sample.device(), sample.scalar_type());
    fresh.probes_.back()->start(sample);
    for (const at::Tensor& each : fresh.probes_.back()->parameters()) parameters.push_back(each);
  }
  torch::optim::Adam optimiser(parameters, torch::optim::AdamOptions(amortised.rate));
  bool stopped = false;
  for (int64_t step = 1; step <= amortised.steps && !stopped; ++step) {
    const auto item = batches.next(order);
    at::Tensor total = at::zeros({}, sample.options());
    for (size_t i = 0; i < options.sites.size(); ++i) {
      const auto depth = static_cast<int64_t>(i);
      total = total +
              loss(*item, depth, fresh.logits(options, item->recording, item->batch, depth), draws);
    }
    check_finite("loss", total);
    // By name: backward() would also write into the frozen model's parameters.
    const auto gradients = torch::autograd::grad({total}, parameters);
    for (size_t i = 0; i < parameters.size(); ++i) parameters[i].mutable_grad() = gradients[i];
    const double done = static_cast<double>(step - 1) / static_cast<double>(amortised.steps);
    optimiser.param_groups()[0].options().set_lr(amortised.rate *
                                                 (1 - (1 - amortised.final_rate) * done));
    optimiser.step();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    for (const Callback& callback : callbacks) {
      stopped |= callback({Progress::Phase::train, step, amortised.steps, seconds.count()}) ==
                 Action::stop;
    }
  }
  for (at::Tensor& parameter : parameters) parameter.mutable_grad() = at::Tensor();
  *this = std::move(fresh);
}

at::Tensor AmortisedProbes::logits(const AttributionOptions& options, const Recording& recording,
                                   const Batch& batch, int64_t depth) const {
  if (!fitted()) throw Error("the method has to be fitted first (fit)");
  const at::Tensor read = side_by_side(options, recording, batch);
  return tied(probes_.at(static_cast<size_t>(depth))->logits(read, batch.examples), batch);
}

}  // namespace diffmask
