#include "diffmask/attribution/learned/infomask.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <string>
#include <utility>

#include "attribution/learned/free_noise.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/mask/masking.hpp"
#include "diffmask/objective/penalty.hpp"

namespace diffmask {

at::Tensor infomask::kl(const at::Tensor& logits, double prior) {
  const at::Tensor q = at::sigmoid(logits);
  return q * (at::log_sigmoid(logits) - std::log(prior)) +
         (1 - q) * (at::log_sigmoid(-logits) - std::log1p(-prior));
}

void InfoMaskOptions::validate() const {
  require(std::isfinite(beta) && beta > 0, "beta", "> 0", beta);
  require(prior > 0 && prior < 1, "prior", "in (0, 1)", prior);
  require(std::isfinite(tau) && tau > 0, "tau", "> 0", tau);
  require(divergence != nullptr, "divergence", "a function", "none");
  probe.validate();
}

InfoMask::InfoMask(std::shared_ptr<const FrozenModel> model, AttributionOptions options,
                   InfoMaskOptions settings)
    : SiteMethod(std::move(model), std::move(options)), settings_(std::move(settings)) {
  settings_.validate();
}

void InfoMask::fit(const Dataset& data, const AmortisedOptions& amortised) {
  const auto loss = [&](const RecordedBatch& item, int64_t depth, const at::Tensor& logits,
                        at::Generator generator) {
    const auto at = static_cast<size_t>(depth);
    const std::string& site = options().sites[at];
    const Positions& positions = options().positions_of(at);
    const at::Tensor& h = item.recording.state(site);
    const at::Tensor& mask = item.batch.mask;
    // One draw for a group, as for its logit.
    at::Tensor u = drawn_uniform(mask.sizes(), generator, h.options()).clamp(1e-6, 1 - 1e-6);
    if (item.batch.groups.defined()) u = spread_groups(u, item.batch.groups);
    const at::Tensor fixed = free_positions(item.batch).logical_not();
    const at::Tensor z =
        at::sigmoid((at::logit(u) + logits) / settings_.tau).masked_fill(fixed, 1.0);
    const at::Tensor state =
        masked(h, positions.expand(z, h), fill::value(options().fill, site, h));
    const at::Tensor output = model().resume(item.recording, site, state);
    return settings_.divergence(item.recording.output(), output).mean() +
           settings_.beta *
               masked_mean(infomask::kl(logits, settings_.prior).masked_fill(fixed, 0), mask);
  };
  probes_.fit(model(), options(), settings_.probe, data, amortised, loss);
}

SiteMethod::Column InfoMask::explain(const Original& original, int64_t depth) const {
  const at::Tensor logits =
      probes_.logits(original.options, original.recording, original.batch, depth);
  const at::Tensor q =
      at::sigmoid(logits).masked_fill(free_positions(original.batch).logical_not(), 1.0);
  return {q, q.gt(0.5)};
}

}  // namespace diffmask
