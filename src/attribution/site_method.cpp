#include "diffmask/attribution/site_method.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/mask/arranged.hpp"

namespace diffmask {

SiteMethod::SiteMethod(std::shared_ptr<const FrozenModel> model, AttributionOptions options)
    : model_(std::move(model)),
      options_(options.resolved(model_.get())),
      given_(options_.positions) {
  model_ = arranged(std::move(model_), options_.sites, given_);
  for (Positions& layout : options_.positions) layout = layout.arranged();
}

const std::string& SiteMethod::Original::site(int64_t depth) const {
  return options.sites.at(static_cast<size_t>(depth));
}

const Positions& SiteMethod::Original::positions(int64_t depth) const {
  return options.positions_of(static_cast<size_t>(depth));
}

at::Tensor SiteMethod::Original::examples() const {
  return at::arange(batch.size(), at::TensorOptions(at::kLong).device(batch.mask.device()));
}

at::Tensor SiteMethod::Original::fill(int64_t depth) const {
  return fill::value(options.fill, site(depth), state(depth));
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
  const bool as_given = dynamic_cast<const Arranged*>(model_.get()) == nullptr;
  Passes passes(*model_, recording, options_.passes,
                as_given ? batch.axes : std::vector<int64_t>(batch.inputs.size(), Batch::kWhole));
  const Original original{
      *model_, options_, batch, recording, target::value(options_.target, output, output), passes};
  for (size_t i = 0; needs_positions() && i < options_.sites.size(); ++i) {
    options_.check_state(i, original.state(static_cast<int64_t>(i)), batch);
    check_layout(*model_, recording, batch, options_.sites[i], options_.positions_of(i));
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
  for (size_t depth = 0; depth < columns.size(); ++depth) {
    const at::Tensor& features = columns[depth].features;
    if (features.defined()) {
      result.features.push_back(positions_at(given_, depth).restore(features));
    }
  }
  result.gap = stacked(&Column::gap, 1);
  result.proven = stacked(&Column::proven, 1);
  return finite(std::move(result), options_.nan_to_zero);
}

}  // namespace diffmask
