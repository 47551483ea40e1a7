#include "diffmask/attribution/learned/amortised.hpp"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/optim/optimiser.hpp"

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
                          const AmortisedOptions& amortised, const SiteLoss& loss) {
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
  const RecordedBatch typical =
      recorded(model, data, typical_batch(data, amortised.batches.batch_size), options.sites);
  const at::Tensor sample =
      side_by_side(options, typical.recording, typical.batch).index({typical.batch.mask});
  for (size_t depth = 0; depth < options.sites.size(); ++depth) {
    fresh.probes_.push_back(std::make_shared<MlpProbe>(sample.size(1), probe, starts));
    fresh.probes_.back()->to(sample.device(), sample.scalar_type());
    fresh.probes_.back()->start(sample);
    for (const at::Tensor& each : fresh.probes_.back()->parameters()) parameters.push_back(each);
  }
  Descent descent(optimiser::adam(), {{"probes", parameters, amortised.rate}});
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
    const double done = static_cast<double>(step - 1) / static_cast<double>(amortised.steps);
    descent.step(total, 1 - (1 - amortised.final_rate) * done);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    for (const Callback& callback : amortised.callbacks) {
      stopped |= callback({Progress::Phase::train, step, amortised.steps, seconds.count()}) ==
                 Action::stop;
    }
  }
  descent.clear();
  *this = std::move(fresh);
}

at::Tensor AmortisedProbes::logits(const AttributionOptions& options, const Recording& recording,
                                   const Batch& batch, int64_t depth) const {
  if (!fitted()) throw Error("the method has to be fitted first (fit)");
  const at::Tensor read = side_by_side(options, recording, batch);
  return tied(probes_.at(static_cast<size_t>(depth))->logits({read, batch.mask, batch.examples}),
              batch);
}

}  // namespace diffmask
