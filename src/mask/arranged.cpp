#include "diffmask/mask/arranged.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

at::Tensor arranged_output(const at::Tensor& output, bool unbatched) {
  const bool is_one = output.dim() > 0 && output.size(0) == 1;
  return unbatched && !is_one ? output.unsqueeze(0) : output;
}

Arranged::Arranged(std::shared_ptr<const FrozenModel> model,
                   std::map<std::string, Positions> positions)
    : model_(std::move(model)), positions_(std::move(positions)) {
  require(model_ != nullptr, "model", "a model", "a null pointer");
  sites_ = model_->sites();
  for (const auto& [site, layout] : positions_) {
    layout.validate();
    unbatched_ = unbatched_ || layout.unbatched();
  }
}

at::Tensor Arranged::output_of(const at::Tensor& output) const {
  return arranged_output(output, unbatched_);
}

// What resumed passes need is the model's own recording.
at::Tensor Arranged::run(Pass& pass) const {
  std::vector<std::string> names;
  for (const Site& site : pass.sites) names.push_back(site.name);
  auto recording = std::make_shared<const Recording>(model_->record(pass.inputs, names));
  for (const std::string& name : names) {
    if (!recording->has(name)) continue;
    const auto found = positions_.find(name);
    const at::Tensor& state = recording->state(name);
    pass.tap(name, found == positions_.end() ? state : found->second.arrange(state));
  }
  const at::Tensor output = output_of(recording->output());
  pass.memory = std::move(recording);
  return output;
}

at::Tensor Arranged::resume_from(Pass& pass) const {
  const auto& recording = *static_cast<const Recording*>(pass.memory.get());
  std::vector<Replacement> replacements;
  for (const Site& site : pass.sites) {
    const at::Tensor state = pass.tap(site.name, at::Tensor());
    const auto found = positions_.find(site.name);
    replacements.push_back(
        {site.name, found == positions_.end() ? state : found->second.restore(state)});
  }
  return output_of(model_->resume(recording, std::move(replacements)));
}

std::shared_ptr<const FrozenModel> arranged(std::shared_ptr<const FrozenModel> model,
                                            const std::vector<std::string>& sites,
                                            const std::vector<Positions>& positions) {
  std::map<std::string, Positions> others;
  for (size_t i = 0; i < sites.size(); ++i) {
    const Positions& layout = positions_at(positions, i);
    if (!layout.batch_first()) others.emplace(sites[i], layout);
  }
  if (others.empty()) return model;
  return std::make_shared<Arranged>(std::move(model), std::move(others));
}

double leak(const FrozenModel& model, const Recording& recording, const std::string& site,
            const Positions& positions) {
  const at::NoGradGuard no_grad;
  const at::Tensor state = positions.arrange(recording.state(site));
  const at::Tensor before = arranged_output(recording.output(), positions.unbatched());
  const int64_t size = state.size(0);
  require(before.dim() > 0 && before.size(0) == size, "output",
          fmt::format("of {} examples, as the state at '{}'", size, site),
          shape_string(before.sizes()));
  if (size < 2) return 0;
  constexpr int64_t kTried = 8;
  double largest = -1;
  for (int64_t example = 0; example < std::min(size, kTried); ++example) {
    at::Tensor changed = state.clone();  // another example's state, and smaller
    changed.select(0, example).copy_(state.select(0, (example + 1) % size) * 0.5);
    const at::Tensor after =
        arranged_output(model.resume(recording, site, positions.restore(changed).contiguous()),
                        positions.unbatched());
    at::Tensor change = (after.to(at::kDouble) - before.to(at::kDouble))
                            .masked_fill(after.eq(before), 0)
                            .abs()
                            .reshape({size, -1})
                            .amax(1);
    const double own = change[example].item<double>();
    change[example] = 0;
    const double others = change.max().item<double>();
    if (own == 0 && others == 0) continue;
    largest = std::max(largest, own == 0 ? 1.0 : others / own);
  }
  return largest;
}

bool is_doubtful(const at::Tensor& given, const Batch& batch, const Positions& positions) {
  const at::Tensor state = positions.arrange(given);
  const int64_t size = state.size(0);
  if (size < 2 || !state.is_floating_point()) return false;
  bool doubtful = !positions.batch_first();
  for (int64_t axis = 1; axis < state.dim(); ++axis) {
    doubtful = doubtful || state.size(axis) == size;
  }
  for (size_t i = 0; i < batch.inputs.size(); ++i) {
    const at::Tensor& input = batch.inputs[i];
    doubtful = doubtful || batch.axis(i) != 0 || input.dim() == 0 || input.size(0) != size;
  }
  return doubtful;
}

void check_layout(const FrozenModel& model, const Recording& recording, const Batch& batch,
                  const std::string& site, const Positions& positions) {
  if (!is_doubtful(recording.state(site), batch, positions)) return;
  require(
      leak(model, recording, site, positions) <= kLargestLeak, fmt::format("state at '{}'", site),
      fmt::format("laid out as '{}', but to change one example's part changes other examples' "
                  "outputs, too: its axes have to be named (positions, --layout), such as 'TBF' "
                  "where time comes first, or 'NF' for the nodes of one graph; the state has to "
                  "be one of independent examples",
                  positions.names()),
      shape_string(recording.state(site).sizes()));
}

}  // namespace diffmask
