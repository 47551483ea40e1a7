#include "diffmask/attribution/learned/noise_tolerance.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "attribution/learned/free_noise.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"

namespace diffmask {

void NoiseToleranceOptions::validate() const {
  const auto positive = [](const char* name, double value) {
    require(std::isfinite(value) && value > 0, name, "> 0", value);
  };
  require(divergence != nullptr, "divergence", "a function", "none");
  positive("lambda", lambda);
  require(steps >= 1, "steps", ">= 1", steps);
  require(draws >= 1, "draws", ">= 1", draws);
  positive("rate", rate);
  positive("smallest", smallest);
  positive("largest", largest);
  require(smallest <= initial && initial <= largest, "initial",
          fmt::format("in [{}, {}]", smallest, largest), initial);
}

NoiseToleranceOptions NoiseToleranceOptions::published() {
  NoiseToleranceOptions options;
  options.lambda = 10.0;
  options.steps = 10;
  options.draws = 1;
  options.rate = 0.1;
  options.initial = std::log1p(std::exp(-5.0));  // softplus(-5)
  return options;
}

NoiseTolerance::NoiseTolerance(std::shared_ptr<const FrozenModel> model, AttributionOptions options,
                               NoiseToleranceOptions settings)
    : SiteMethod(std::move(model), std::move(options)), settings_(std::move(settings)) {
  settings_.validate();
}

SiteMethod::Column NoiseTolerance::explain(const Original& original, int64_t depth) const {
  const Positions& positions = original.positions(depth);
  const Batch& batch = original.batch;
  const at::Tensor& recorded = original.state(depth);
  const at::Tensor free = free_positions(batch).to(recorded.dtype());
  const auto cost = [&](const at::Tensor& log_sigma) {
    return -settings_.lambda * (tied(log_sigma, batch) * free).sum(1);
  };
  const auto state = [&](const at::Tensor& log_sigma, const at::Tensor& rows, const at::Tensor& h,
                         const at::Tensor& n) {
    const at::Tensor sigma = (tied(log_sigma, batch).exp() * free).index_select(0, rows);
    return h + positions.expand(sigma, h) * n;
  };
  const auto project = [&](at::Tensor& log_sigma) {
    log_sigma.clamp_(std::log(settings_.smallest), std::log(settings_.largest));
  };
  const FreeNoise search{
      settings_.steps, settings_.draws, settings_.rate, settings_.divergence, state, cost, project};
  const at::Tensor start =
      at::full(batch.mask.sizes(), std::log(settings_.initial), recorded.options());
  const at::Tensor log_sigma =
      tied(search.descend(original, depth, start,
                          make_generator(derive_seed(settings_.seed, depth), recorded.device())),
           batch);
  const at::Tensor mean =
      (log_sigma * free).sum(1, /*keepdim=*/true) / free.sum(1, /*keepdim=*/true).clamp_min(1);
  // Positions that are never given noise are kept, though nothing is known of them.
  return {(-log_sigma).exp() * free, log_sigma.lt(mean).logical_or(free.eq(0))};
}

}  // namespace diffmask
