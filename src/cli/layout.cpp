// Where a state's examples, positions and features are.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "cli/outputs.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/mask/arranged.hpp"
#include "program/program_graph.hpp"

namespace diffmask::cli {
namespace {

bool has_any(const std::string& name, const std::vector<std::string_view>& parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](std::string_view part) { return name.find(part) != name.npos; });
}

enum class Seen { signal, sequence, nothing };

// What an operator makes or reads, of tensors with three axes.
Seen seen_by(const Step& step) {
  const std::string& name = step.operation.empty() ? step.name : step.operation;
  if (has_any(name, {"conv", "pool1d", "batch_norm", "instance_norm", "group_norm"})) {
    return Seen::signal;
  }
  if (has_any(name, {"embedding", "linear", "layer_norm", "lstm", "gru", "rnn", "matmul", "addmm",
                     "bmm", "transpose", "permute", "attention"})) {
    return Seen::sequence;
  }
  return Seen::nothing;
}

// Whether a state of three axes is (B, C, L): by the nearest operators, before it and behind it,
// that tell.
bool is_signal(const Program& model, const std::string& site) {
  const ProgramGraph& graph = model.graph();
  const Slot slot = graph.sites.at(static_cast<size_t>(model.site(site).depth)).slot;
  std::vector<bool> above(graph.known.size(), false), below(graph.known.size(), false);
  above[static_cast<size_t>(slot)] = below[static_cast<size_t>(slot)] = true;
  const auto any = [](const std::vector<Slot>& slots, const std::vector<bool>& marks) {
    return std::any_of(slots.begin(), slots.end(),
                       [&](Slot each) { return marks[static_cast<size_t>(each)]; });
  };
  for (auto step = graph.steps.rbegin(); step != graph.steps.rend(); ++step) {
    if (!any(step->outputs, above)) continue;
    if (seen_by(*step) != Seen::nothing) return seen_by(*step) == Seen::signal;
    for (const Slot input : step->inputs) above[static_cast<size_t>(input)] = true;
  }
  for (const Step& step : graph.steps) {
    if (!any(step.inputs, below)) continue;
    if (seen_by(step) != Seen::nothing) return seen_by(step) == Seen::signal;
    for (const Slot output : step.outputs) below[static_cast<size_t>(output)] = true;
  }
  return false;
}

// The layouts that the sizes allow, the usual ones first.
std::vector<std::string> allowed(const at::Tensor& state, int64_t examples, bool signal) {
  const int64_t axes = state.dim();
  const std::vector<std::string> behind = {"", "P", signal ? "CL" : "TF", "CHW", "CDHW"};
  std::vector<std::string> layouts;
  if (axes < 2 || axes > 5) return layouts;
  const std::string& rest = behind[static_cast<size_t>(axes) - 1];
  const int64_t first = state.size(0);
  if (first == examples) layouts.push_back("B" + rest);
  if (axes == 3 && state.size(1) == examples) layouts.emplace_back("TBF");
  if (axes == 2 && state.size(1) == examples) layouts.emplace_back("PB");
  if (first > examples && first % examples == 0) {
    layouts.push_back(fmt::format("(B{}){}", first / examples, axes == 2 ? "F" : rest));
  }
  return layouts;
}

Positions positions_for(const std::string& layout) {
  using Layout = Positions::Layout;
  if (layout == "BTF") return {Layout::sequence};
  if (layout == "BCHW") return {Layout::image};
  if (layout == "BP") return {Layout::units};
  return Positions::of(layout);
}

int64_t axes_in(const std::string& layout) {
  return std::count_if(layout.begin(), layout.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

}  // namespace

Positions layout_of(const Program& model, const Recording& recording, const std::string& site,
                    const std::vector<std::string>& layouts) {
  const at::Tensor& state = recording.state(site);
  for (const std::string& layout : layouts) {
    if (axes_in(layout) == state.dim()) return positions_for(layout);
  }
  const at::Tensor& output = recording.output();
  const std::string name = fmt::format("state at '{}'", site);
  const int64_t examples = output.dim() > 0 ? output.size(0) : 0;
  const bool signal = state.dim() == 3 && is_signal(model, site);
  std::vector<std::string> candidates;
  if (examples > 0) candidates = allowed(state, examples, signal);
  const std::string cure = fmt::format(
      "laid out such that its axes can be told, with an output of shape {}: name them by --layout, "
      "such as TBF (time first), BTF, BCL (a signal) or NF (the nodes of one graph)",
      shape_string(output.sizes()));
  require(!candidates.empty(), name, cure, shape_string(state.sizes()));
  const Batch batch{recording.inputs(), {}};
  const Positions usual = positions_for(candidates.front());
  if (!state.is_floating_point()) return usual;
  if (candidates.size() == 1 && !is_doubtful(state, batch, usual)) return usual;
  constexpr double kRounding = 1e-4;
  std::vector<std::string> fitting;
  bool changes = false, exactly = false;
  for (const std::string& candidate : candidates) {
    const double found = leak(model, recording, site, positions_for(candidate));
    changes = changes || found > 0;
    if (found < 0 || found > (exactly ? kRounding : kLargestLeak)) continue;
    if (found <= kRounding && !exactly) fitting.clear();  // others came close by chance
    exactly = exactly || found <= kRounding;
    fitting.push_back(candidate);
  }
  if (fitting.size() == 1) return positions_for(fitting.front());
  if (fitting.empty() && !changes) return usual;  // the output does not depend on it
  throw ArgumentError(name, cure,
                      fmt::format("{}, which may be {}", shape_string(state.sizes()),
                                  fitting.empty() ? "none of the usual ones"
                                                  : fmt::format("{}", fmt::join(fitting, " or "))));
}

}  // namespace diffmask::cli
