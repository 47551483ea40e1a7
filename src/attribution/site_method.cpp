#include "diffmask/attribution/site_method.hpp"

#include <ATen/ExpandUtils.h>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

void AttributionOptions::validate() const {
  for (const Positions& layout : positions) layout.validate();
  require(positions.size() <= 1 || positions.size() == sites.size(), "positions",
          "none, one for all sites, or one a site", positions.size());
  require(target != nullptr, "target", "a function", "none");
  require(fill != nullptr, "fill", "a function", "none");
  passes.validate();
}

SiteMethod::SiteMethod(std::shared_ptr<const FrozenModel> model, AttributionOptions options)
    : model_(std::move(model)), options_(std::move(options)) {
  require(model_ != nullptr, "model", "a model", "a null pointer");
  options_.validate();
  if (options_.sites.empty()) options_.sites = model_->site_names();
  for (const std::string& site : options_.sites) model_->site(site);
}

const std::string& SiteMethod::Original::site(int64_t depth) const {
  return options.sites.at(static_cast<size_t>(depth));
}

const Positions& SiteMethod::Original::positions(int64_t depth) const {
  static const Positions sequence;
  if (options.positions.empty()) return sequence;
  return options.positions.size() == 1 ? options.positions.front()
                                       : options.positions.at(static_cast<size_t>(depth));
}

at::Tensor SiteMethod::Original::examples() const {
  return at::arange(batch.size(), at::TensorOptions(at::kLong).device(batch.mask.device()));
}

at::Tensor SiteMethod::Original::fill(int64_t depth) const {
  const at::Tensor& h = state(depth);
  const at::Tensor filled = options.fill(site(depth), h);
  const std::string name = fmt::format("fill of '{}'", site(depth));
  require(filled.defined(), name, "a tensor", "an undefined one");
  require(at::is_expandable_to(filled.sizes(), h.sizes()), name,
          fmt::format("of a shape that broadcasts to {}", shape_string(h.sizes())),
          shape_string(filled.sizes()));
  return filled.to(h.options()).expand_as(h);
}

SiteMethod::Column SiteMethod::summed(const Original& original, int64_t depth,
                                      const at::Tensor& features) {
  const at::Tensor scores = original.positions(depth).features(features).sum(2);
  return {scores, scores.gt(0), features};
}

std::vector<SiteMethod::Column> SiteMethod::explain_all(const Original& original) const {
  std::vector<Column> columns;
  for (size_t depth = 0; depth < options_.sites.size(); ++depth) {
    columns.push_back(explain(original, static_cast<int64_t>(depth)));
  }
  return columns;
}

void SiteMethod::with_original(const Batch& given,
                               const std::function<void(const Original&)>& use) const {
  given.validate();
  at::NoGradGuard no_grad;
  const Batch batch = given.to(model_->device());
  const Recording recording = model_->record(batch.inputs, options_.sites);
  const at::Tensor& output = recording.output();
  require(output.dim() > 0 && output.size(0) == batch.size(), "output",
          fmt::format("of {} examples, as batch.mask", batch.size()), shape_string(output.sizes()));
  Passes passes(*model_, recording, options_.passes);
  const Original original{
      *model_, options_, batch, recording, target::value(options_.target, output, output), passes};
  for (size_t i = 0; needs_positions() && i < options_.sites.size(); ++i) {
    const auto depth = static_cast<int64_t>(i);
    const std::string name = fmt::format("state at '{}'", original.site(depth));
    check_finite(name, original.state(depth));
    const int64_t count = original.positions(depth).features(original.state(depth)).size(1);
    require(count == batch.mask.size(1), name,
            fmt::format("of {} positions, as batch.mask", batch.mask.size(1)), count);
  }
  use(original);
}

Attribution SiteMethod::attribute(const Batch& batch) const {
  std::vector<Column> columns;
  Attribution result;
  with_original(batch, [&](const Original& original) {
    columns = explain_all(original);
    result.mask = original.batch.mask;
    result.passes = original.batch.size() + original.passes.count();
  });
  const auto stacked = [&](at::Tensor Column::*part, int64_t dim) {
    std::vector<at::Tensor> parts;
    for (const Column& column : columns) {
      if ((column.*part).defined()) parts.push_back(column.*part);
    }
    return parts.empty() ? at::Tensor() : at::stack(parts, dim);
  };
  const at::Tensor outside = result.mask.logical_not().unsqueeze(2);
  result.sites = options_.sites;
  result.scores = stacked(&Column::scores, 2).masked_fill(outside, 0);
  result.keep = stacked(&Column::keep, 2).masked_fill(outside, false);
  for (const Column& column : columns) {
    if (column.features.defined()) result.features.push_back(column.features);
  }
  result.gap = stacked(&Column::gap, 1);
  result.proven = stacked(&Column::proven, 1);
  return result;
}

}  // namespace diffmask
