#include "attribution/propagation/program_method.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/mask/arranged.hpp"
#include "diffmask/program/program.hpp"

namespace diffmask {
namespace {

std::vector<Slot> slots_of(const Program& program, const std::vector<std::string>& sites) {
  std::vector<Slot> slots;
  for (const std::string& site : sites) {
    slots.push_back(program.graph().sites.at(static_cast<size_t>(program.site(site).depth)).slot);
  }
  return slots;
}

// What is asked for, and all hidden states that depend on the inputs.
std::vector<Slot> roots_of(const Program& program, const std::vector<std::string>& asked) {
  std::vector<std::string> roots = asked;
  for (const Site& site : program.sites()) {
    if (!site.is_input && !site.is_fixed) roots.push_back(site.name);
  }
  return slots_of(program, roots);
}

}  // namespace

ProgramPass::ProgramPass(const FrozenModel& model, const AttributionOptions& options,
                         const Batch& batch, bool all_sites_are_roots, Explained explained)
    : options_(options),
      batch_(batch),
      program_(model.program(batch.inputs)),
      slots_(slots_of(*program_, options.sites)),
      tape_(program_->graph(), batch.inputs,
            all_sites_are_roots ? roots_of(*program_, options.sites) : slots_, explained) {
  for (size_t depth = 0; depth < slots_.size(); ++depth) {
    require(tape_.value(slots_[depth]).isTensor(),
            fmt::format("state at '{}'", options_.sites[depth]), "a tensor",
            tape_.value(slots_[depth]).tagKind());
    options_.check_state(depth, state(depth), batch);
    check_layout(depth);
  }
}

void ProgramPass::check_layout(size_t depth) const {
  const std::string& site = options_.sites[depth];
  const Positions& positions = options_.positions_of(depth);
  if (!is_doubtful(state(depth), batch_, positions)) return;
  diffmask::check_layout(*program_, program_->record(batch_.inputs, {site}), batch_, site,
                         positions);
}

at::Tensor ProgramPass::arranged(const at::Tensor& output) const {
  const auto& all = options_.positions;
  const bool unbatched =
      std::any_of(all.begin(), all.end(), [](const Positions& p) { return p.unbatched(); });
  return arranged_output(output, unbatched);
}

at::Tensor ProgramPass::example_sums(size_t depth, const at::Tensor& features) const {
  return row_sums(options_.positions_of(depth).arrange(features));
}

at::Tensor ProgramPass::choose(size_t depth, const at::Tensor& condition, const at::Tensor& a,
                               const at::Tensor& b) const {
  const Positions& positions = options_.positions_of(depth);
  const at::Tensor first = positions.arrange(a);
  std::vector<int64_t> rows(static_cast<size_t>(first.dim()), 1);
  rows[0] = -1;
  return positions.restore(at::where(condition.view(rows), first, positions.arrange(b)));
}

Attribution ProgramPass::result(std::vector<at::Tensor> features, int64_t passes) const {
  std::vector<at::Tensor> scores;
  for (size_t depth = 0; depth < slots_.size(); ++depth) {
    require(features[depth].defined() || options_.zero_where_independent, "site",
            "one that the output depends on (zero_where_independent gives zeros for others)",
            fmt::format("'{}'", options_.sites[depth]));
    if (!features[depth].defined()) features[depth] = at::zeros_like(state(depth));
    scores.push_back(options_.positions_of(depth).features(features[depth]).sum(2));
  }
  const at::Tensor all =
      at::stack(scores, 2).masked_fill(batch_.mask.logical_not().unsqueeze(2), 0);
  Attribution result{options_.sites, all, all.gt(0), batch_.mask};
  result.features = std::move(features);
  result.passes = passes;
  return result;
}

Attribution in_parts(const AttributionOptions& options, const Batch& batch,
                     const std::function<Attribution(const Batch&, int64_t)>& explain) {
  std::vector<Attribution> parts;
  const bool by_rows =
      batch.can_select() &&
      std::all_of(options.positions.begin(), options.positions.end(),
                  [](const Positions& positions) { return positions.batch_first(); });
  PassOptions passes = options.passes;
  if (!by_rows) passes = {.max_batch = batch.size(), .progress = options.passes.progress};
  Chunks(passes).each(batch.size(), 1, [&](int64_t begin, int64_t end) {
    const bool whole = end - begin == batch.size();
    parts.push_back(explain(whole ? batch : batch.narrow(begin, end - begin), begin));
  });
  if (parts.size() == 1) return finite(std::move(parts[0]), options.nan_to_zero);
  const auto joined = [&](const auto& of) {
    std::vector<at::Tensor> tensors;
    for (const Attribution& part : parts) tensors.push_back(of(part));
    return at::cat(tensors);
  };
  Attribution result{options.sites, joined([](const Attribution& a) { return a.scores; }),
                     joined([](const Attribution& a) { return a.keep; }), batch.mask};
  for (size_t depth = 0; depth < options.sites.size(); ++depth) {
    result.features.push_back(joined([&](const Attribution& a) { return a.features[depth]; }));
  }
  result.gap = joined([](const Attribution& a) { return a.gap; });
  for (const Attribution& part : parts) result.passes += part.passes;
  return finite(std::move(result), options.nan_to_zero);
}

at::Tensor target_gradient(const Target& target, const at::Tensor& output,
                           const at::Tensor& original) {
  const at::AutoGradMode with_gradients(true);
  const at::Tensor leaf = output.detach().requires_grad_(true);
  const at::Tensor value = target::value(target, leaf, original);
  require(value.requires_grad(), "target", "a function of the output", "a constant");
  return torch::autograd::grad({value.sum()}, {leaf})[0];
}

at::Tensor row_sums(const at::Tensor& values) {
  return values.reshape({values.size(0), -1}).sum(1);
}

}  // namespace diffmask
