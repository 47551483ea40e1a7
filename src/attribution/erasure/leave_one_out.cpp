#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "attribution/erasure/erased.hpp"
#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

using Measure = LeaveOneOutOptions::Measure;

// y or p, in double: log-odds of probabilities near 1 would be lost in single precision.
at::Tensor averaged(Measure measure, const Target& target, const at::Tensor& output,
                    const at::Tensor& original) {
  const at::Tensor y = output.to(at::kDouble);
  if (measure == Measure::logit) return target::value(target, y, original.to(at::kDouble));
  const bool one_logit = y.dim() == 1 || y.size(1) == 1;
  return target::value(target, one_logit ? y.sigmoid() : y.softmax(1), original.to(at::kDouble));
}

at::Tensor measured(Measure measure, const at::Tensor& mean) {
  constexpr double kLeast = 1e-15;  // keeps log-odds finite
  return measure == Measure::log_odds ? at::logit(mean, kLeast) : mean;
}

}  // namespace

void LeaveOneOutOptions::validate() const { require(samples >= 1, "samples", ">= 1", samples); }

LeaveOneOut::LeaveOneOut(std::shared_ptr<const FrozenModel> model, AttributionOptions options,
                         LeaveOneOutOptions settings)
    : SiteMethod(std::move(model), std::move(options)), settings_(settings) {
  settings_.validate();
}

SiteMethod::Column LeaveOneOut::explain(const Original& original, int64_t depth) const {
  const Units units(original.batch);
  // Unit by unit, each of all examples that have it, so that chunks are of the same examples.
  const at::Tensor pairs = units.present().t().nonzero();
  const at::Tensor rows = pairs.select(1, 1).contiguous(), unit = pairs.select(1, 0);
  const at::Tensor keep =
      at::ones({rows.size(0), units.present().size(1)}, units.present().options())
          .scatter(1, unit.unsqueeze(1), false);
  const auto reduce = [&](const at::Tensor& output, const at::Tensor& recorded) {
    return averaged(settings_.measure, options().target, output, recorded);
  };
  at::Tensor mean = at::zeros({rows.size(0)}, rows.options().dtype(at::kDouble));
  for (int64_t sample = 0; sample < settings_.samples; ++sample) {
    mean += erased(original, depth, units, original.fill(depth), rows, keep, reduce) /
            static_cast<double>(settings_.samples);
  }
  const at::Tensor& output = original.recording.output();
  const at::Tensor before =
      measured(settings_.measure, reduce(output, output)).index_select(0, rows);
  const at::Tensor drop = before - measured(settings_.measure, mean);
  const at::Tensor by_unit =
      at::zeros(units.present().sizes(), drop.options()).index_put({rows, unit}, drop);
  const at::Tensor scores =
      units.spread(by_unit, original.examples(), 0).to(original.state(depth).scalar_type());
  return {scores, scores.gt(0)};
}

}  // namespace diffmask
