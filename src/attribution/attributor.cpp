#include "diffmask/attribution/attributor.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

void AttributionOptions::validate() const {
  for (const Positions& layout : positions) layout.validate();
  require(positions.size() <= 1 || positions.size() == sites.size(), "positions",
          "none, one for all sites, or one per site", positions.size());
  require(target != nullptr, "target", "a function", "none");
  require(fill != nullptr, "fill", "a function", "none");
  passes.validate();
}

AttributionOptions AttributionOptions::resolved(const FrozenModel* model) const {
  require(model != nullptr, "model", "a model", "a null pointer");
  AttributionOptions options = *this;
  if (options.sites.empty()) options.sites = model->site_names();
  options.validate();
  for (const std::string& site : options.sites) model->site(site);
  return options;
}

const Positions& AttributionOptions::positions_of(size_t depth) const {
  return positions_at(positions, depth);
}

void AttributionOptions::check_state(size_t depth, const at::Tensor& state,
                                     const Batch& batch) const {
  const std::string name = fmt::format("state at '{}'", sites.at(depth));
  check_finite(name, state);
  const int64_t count = positions_of(depth).features(state).size(1);
  require(count == batch.mask.size(1), name,
          fmt::format("of {} positions, as batch.mask", batch.mask.size(1)), count);
}

Attribution finite(Attribution attribution, bool nan_to_zero) {
  const auto checked = [&](at::Tensor& values, size_t depth, const char* what) {
    if (!values.defined()) return;
    const at::Tensor bad = at::isfinite(values).logical_not();
    const int64_t count = bad.sum().item<int64_t>();
    if (count == 0) return;
    if (!nan_to_zero) {
      throw NotFinite(fmt::format("{} at '{}'", what, attribution.sites.at(depth)),
                      "finite (nan_to_zero, --nan-to-zero: 0 in place of others)",
                      fmt::format("{} NaN or infinite of {}", count, values.numel()));
    }
    values = values.masked_fill(bad, 0);
    attribution.zeroed += count;
  };
  std::vector<at::Tensor> scores, gaps;
  for (size_t depth = 0; depth < attribution.sites.size(); ++depth) {
    const auto column = static_cast<int64_t>(depth);
    if (depth < attribution.features.size())
      checked(attribution.features[depth], depth, "features");
    scores.push_back(attribution.scores.select(2, column));
    checked(scores.back(), depth, "scores");
    if (!attribution.gap.defined()) continue;
    gaps.push_back(attribution.gap.select(1, column));
    checked(gaps.back(), depth, "gap");
  }
  if (attribution.zeroed == 0) return attribution;
  attribution.scores = at::stack(scores, 2);
  if (!gaps.empty()) attribution.gap = at::stack(gaps, 1);
  return attribution;
}

Attribution side_by_side(const std::vector<std::pair<std::string, Attribution>>& named) {
  require(!named.empty(), "named", "at least one attribution", "none");
  const at::Tensor& mask = named.front().second.mask;
  std::vector<std::string> sites;
  std::vector<at::Tensor> scores, keep;
  for (const auto& [name, attribution] : named) {
    require(attribution.mask.equal(mask), name, "of the same positions as the first", "others");
    for (const std::string& site : attribution.sites) {
      sites.push_back(fmt::format("{}, {}", name, site));
    }
    scores.push_back(attribution.scores);
    keep.push_back(attribution.keep);
  }
  return {std::move(sites), at::cat(scores, 2), at::cat(keep, 2), mask};
}

}  // namespace diffmask
