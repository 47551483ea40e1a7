#include "diffmask/attribution/learned/information_bottleneck.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "attribution/learned/bottleneck.hpp"
#include "attribution/learned/free_noise.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"

namespace diffmask {

Bottleneck::Bottleneck(const StateStatistics& statistics, const std::string& site,
                       const Positions& positions, double floor) {
  const at::Tensor constant = statistics.deviation.le(0).nonzero();
  require(floor > 0 || constant.size(0) == 0, fmt::format("deviation at '{}'", site),
          "> 0 in each channel, or `floor` be",
          fmt::format("0 in channel {}",
                      constant.size(0) > 0 ? constant[0][0].item<int64_t>() : int64_t{0}));
  mean = positions.expand_vector(statistics.mean);
  deviation = positions.expand_vector(statistics.deviation.clamp_min(floor));
}

at::Tensor Bottleneck::noisy(const at::Tensor& alpha, const at::Tensor& free,
                             const at::Tensor& state, const at::Tensor& noise) const {
  const at::Tensor closed = at::sigmoid(-alpha) * free;
  return state + closed * (mean + deviation * noise - state);
}

at::Tensor Bottleneck::kl(const at::Tensor& alpha, const at::Tensor& free,
                          const at::Tensor& state) const {
  const at::Tensor open = at::sigmoid(alpha), closed = at::sigmoid(-alpha);
  const at::Tensor r = (state - mean) / deviation;
  // -log(1 - l) = softplus(alpha)
  return (at::softplus(alpha) + (closed.square() + (open * r).square() - 1) / 2) * free;
}

at::Tensor mean_kl(const at::Tensor& kl, const at::Tensor& free) {
  return kl.flatten(1).sum(1) / free.expand_as(kl).flatten(1).sum(1).clamp_min(1);
}

SiteMethod::Column bits(const Positions& positions, const at::Tensor& kl, const at::Tensor& open) {
  const at::Tensor features = kl / std::log(2.0);
  const at::Tensor scores = positions.features(features).sum(2).clamp_min(0);
  return {scores, positions.features(open.expand_as(kl)).mean(2).gt(0.5), features};
}

void BottleneckOptions::validate() const {
  require(std::isfinite(beta) && beta > 0, "beta", "> 0", beta);
  require(divergence != nullptr, "divergence", "a function", "none");
  require(std::isfinite(floor) && floor >= 0, "floor", ">= 0", floor);
}

void InformationBottleneckOptions::validate() const {
  BottleneckOptions::validate();
  require(steps >= 1, "steps", ">= 1", steps);
  require(draws >= 1, "draws", ">= 1", draws);
  require(std::isfinite(rate) && rate > 0, "rate", "> 0", rate);
  require(std::isfinite(initial), "initial", "finite", initial);
}

InformationBottleneckOptions InformationBottleneckOptions::published() {
  InformationBottleneckOptions options;
  options.beta = 10.0;
  options.divergence = divergence::cross_entropy;
  options.steps = 10;
  options.rate = 1.0;
  options.per_feature = true;
  return options;
}

InformationBottleneck::InformationBottleneck(std::shared_ptr<const FrozenModel> model,
                                             AttributionOptions options,
                                             InformationBottleneckOptions settings)
    : SiteMethod(std::move(model), std::move(options)), settings_(std::move(settings)) {
  settings_.validate();
}

void InformationBottleneck::fit(const Dataset& data) {
  statistics_ = state_statistics(model(), options(), data);
}

SiteMethod::Column InformationBottleneck::explain(const Original& original, int64_t depth) const {
  if (statistics_.empty()) throw Error("InformationBottleneck has to be fitted first (fit)");
  const Positions& positions = original.positions(depth);
  const Batch& batch = original.batch;
  const at::Tensor& recorded = original.state(depth);
  const Bottleneck noise(statistics_.at(original.site(depth)), original.site(depth), positions,
                         settings_.floor);
  const at::Tensor free = positions.expand(free_positions(batch).to(recorded.dtype()), recorded);
  // alpha brought to a shape that broadcasts against the state.
  const auto spread = [&](const at::Tensor& alpha) {
    return settings_.per_feature ? alpha : positions.expand(tied(alpha, batch), recorded);
  };
  const auto cost = [&](const at::Tensor& alpha) {
    return settings_.beta * mean_kl(noise.kl(spread(alpha), free, recorded), free);
  };
  const auto state = [&](const at::Tensor& alpha, const at::Tensor& rows, const at::Tensor& h,
                         const at::Tensor& n) {
    return noise.noisy(spread(alpha).index_select(0, rows), free.index_select(0, rows), h, n);
  };
  const auto shape = settings_.per_feature ? recorded.sizes() : batch.mask.sizes();
  const FreeNoise search{settings_.steps,      settings_.draws, settings_.rate,
                         settings_.divergence, state,           cost};
  const at::Tensor alpha =
      spread(search.descend(original, depth, at::full(shape, settings_.initial, recorded.options()),
                            make_generator(derive_seed(settings_.seed, depth), recorded.device())));
  return bits(positions, noise.kl(alpha, free, recorded), 1 - at::sigmoid(-alpha) * free);
}

ReadOutBottleneck::ReadOutBottleneck(std::shared_ptr<const FrozenModel> model,
                                     AttributionOptions options, BottleneckOptions settings,
                                     MlpProbeOptions probe)
    : SiteMethod(std::move(model), std::move(options)),
      settings_(std::move(settings)),
      probe_(probe) {
  settings_.validate();
  probe_.validate();
}

void ReadOutBottleneck::fit(const Dataset& data, const AmortisedOptions& amortised) {
  amortised.validate();
  const auto statistics = state_statistics(model(), options(), data, amortised.batches.batch_size);
  std::vector<Bottleneck> noise;
  for (size_t depth = 0; depth < options().sites.size(); ++depth) {
    const std::string& site = options().sites[depth];
    noise.emplace_back(statistics.at(site), site, options().positions_of(depth), settings_.floor);
  }
  const auto loss = [&](const RecordedBatch& item, int64_t depth, const at::Tensor& logits,
                        at::Generator generator) {
    const auto at = static_cast<size_t>(depth);
    const std::string& site = options().sites[at];
    const Positions& positions = options().positions_of(at);
    const at::Tensor& h = item.recording.state(site);
    const at::Tensor alpha = positions.expand(logits, h);
    const at::Tensor free = positions.expand(free_positions(item.batch).to(h.dtype()), h);
    const at::Tensor n = drawn_normal(h.sizes(), generator, h.options());
    const at::Tensor output =
        model().resume(item.recording, site, noise[at].noisy(alpha, free, h, n));
    return settings_.divergence(item.recording.output(), output).mean() +
           settings_.beta * mean_kl(noise[at].kl(alpha, free, h), free).mean();
  };
  probes_.fit(model(), options(), probe_, data, amortised, loss);
  statistics_ = statistics;
}

SiteMethod::Column ReadOutBottleneck::explain(const Original& original, int64_t depth) const {
  const Positions& positions = original.positions(depth);
  const at::Tensor& h = original.state(depth);
  const at::Tensor alpha = positions.expand(
      probes_.logits(original.options, original.recording, original.batch, depth), h);
  const at::Tensor free = positions.expand(free_positions(original.batch).to(h.dtype()), h);
  const Bottleneck noise(statistics_.at(original.site(depth)), original.site(depth), positions,
                         settings_.floor);
  return bits(positions, noise.kl(alpha, free, h), 1 - at::sigmoid(-alpha) * free);
}

}  // namespace diffmask
