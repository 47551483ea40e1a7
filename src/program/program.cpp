#include "diffmask/program/program.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "program/program_graph.hpp"

namespace diffmask {
namespace {

// What a recording keeps for the passes that resume from it.
using Kept = std::vector<std::pair<Slot, c10::IValue>>;

using Marks = std::vector<bool>;

bool any(const std::vector<Slot>& slots, const Marks& marks) {
  return std::any_of(slots.begin(), slots.end(), [&](Slot slot) { return marks[slot]; });
}

void mark(const std::vector<Slot>& slots, Marks& marks) {
  for (const Slot slot : slots) marks[slot] = true;
}

// What depends on the slots marked; a site that is replaced depends on nothing.
Marks dependent(const ProgramGraph& graph, const std::vector<Slot>& sources) {
  Marks changed(graph.known.size(), false);
  mark(sources, changed);
  for (const Step& step : graph.steps) {
    if (any(step.inputs, changed)) mark(step.outputs, changed);
  }
  return changed;
}

// Adds what a resumed pass from this slot will read but not compute.
void mark_kept(const ProgramGraph& graph, Slot source, Marks& kept) {
  const Marks changed = dependent(graph, {source});
  Marks needed(graph.known.size(), false);
  needed[graph.output] = true;
  if (!changed[graph.output]) kept[graph.output] = true;
  for (auto step = graph.steps.rbegin(); step != graph.steps.rend(); ++step) {
    if (!any(step->outputs, needed) || !any(step->inputs, changed)) continue;
    for (const Slot slot : step->inputs) {
      (changed[slot] ? needed : kept)[slot] = true;
    }
  }
}

// Whether a step's outputs have to be computed, and where each slot is used last.
struct Plan {
  std::vector<bool> run;
  std::vector<size_t> last_use;
};

Plan plan(const ProgramGraph& graph, Marks wanted, const Marks& available) {
  constexpr size_t kNever = 0, kAlways = std::numeric_limits<size_t>::max();
  Plan result{std::vector<bool>(graph.steps.size(), false),
              std::vector<size_t>(graph.known.size(), kNever)};
  for (size_t slot = 0; slot < wanted.size(); ++slot) {
    if (wanted[slot] || graph.known[slot]) result.last_use[slot] = kAlways;
  }
  for (size_t i = graph.steps.size(); i-- > 0;) {
    const Step& step = graph.steps[i];
    const bool needed = std::any_of(step.outputs.begin(), step.outputs.end(),
                                    [&](Slot slot) { return wanted[slot] && !available[slot]; });
    if (!needed) continue;
    result.run[i] = true;
    for (const Slot slot : step.inputs) {
      wanted[slot] = true;
      if (result.last_use[slot] == kNever) result.last_use[slot] = i;
    }
  }
  return result;
}

}  // namespace

Program::Program(std::unique_ptr<const ProgramGraph> graph) : graph_(std::move(graph)) {
  std::vector<int64_t> made_by(graph_->known.size(), -1);
  for (size_t i = 0; i < graph_->steps.size(); ++i) {
    for (const Slot slot : graph_->steps[i].outputs) made_by[slot] = static_cast<int64_t>(i);
  }
  for (const auto& site : graph_->sites) {
    sites_.push_back(
        {site.name, static_cast<int64_t>(sites_.size()), site.type, made_by[site.slot]});
  }
}

Program::~Program() = default;

std::map<std::string, at::Tensor> Program::tensors() const { return graph_->tensors; }

int64_t Program::steps() const { return static_cast<int64_t>(graph_->steps.size()); }

at::Tensor Program::run(Pass& pass) const {
  const ProgramGraph& graph = *graph_;
  graph.check(pass.inputs);
  Stack values = graph.constants;
  Marks available = graph.known, wanted(graph.known.size(), false), kept(wanted);
  const auto give = [&](Slot slot, c10::IValue value) {
    values[slot] = std::move(value);
    available[slot] = true;
  };
  for (size_t i = 0; i < graph.inputs.size(); ++i) give(graph.inputs[i], pass.inputs[i]);

  std::vector<Slot> touched;
  for (const Site& site : pass.sites) touched.push_back(graph.sites[site.depth].slot);
  wanted[graph.output] = !pass.only_memory;
  if (pass.resumed) {
    const Marks changed = dependent(graph, touched);
    if (const auto* memory = static_cast<const Kept*>(pass.memory.get())) {
      for (const auto& [slot, value] : *memory) {
        if (!changed[slot]) give(slot, value);
      }
    }
    for (size_t i = 0; i < touched.size(); ++i) {
      give(touched[i], pass.tap(pass.sites[i].name, at::Tensor()));
    }
  } else {
    for (const Slot slot : touched) mark_kept(graph, slot, kept);
    for (size_t slot = 0; slot < kept.size(); ++slot) kept[slot] = kept[slot] && !available[slot];
    if (!pass.only_memory) mark(touched, wanted);
    for (size_t i = 0; pass.only_memory && i < touched.size(); ++i) {
      give(touched[i], pass.tap(pass.sites[i].name, at::Tensor()));
    }
    for (size_t slot = 0; slot < kept.size(); ++slot) wanted[slot] = wanted[slot] || kept[slot];
  }

  const Plan todo = plan(graph, wanted, available);
  Stack stack;
  size_t next = 0;  // of pass.sites, which are in the order of their steps
  for (size_t i = 0; i < graph.steps.size(); ++i) {
    if (!todo.run[i]) continue;
    const Step& step = graph.steps[i];
    for (const Slot slot : step.inputs) {
      if (todo.last_use[slot] == i &&
          std::count(step.inputs.begin(), step.inputs.end(), slot) == 1) {
        stack.push_back(std::move(values[slot]));
      } else {
        stack.push_back(values[slot]);
      }
    }
    step.run(stack);
    for (size_t output = step.outputs.size(); output-- > 0;) {
      values[step.outputs[output]] = std::move(stack.back());
      stack.pop_back();
    }
    for (const Slot slot : step.inputs) {
      if (todo.last_use[slot] == i) values[slot] = c10::IValue();
    }
    const bool recorded = !pass.resumed && !pass.only_memory;
    if (!recorded || next == touched.size() || step.outputs[0] != touched[next]) continue;
    c10::IValue& state = values[touched[next]];
    if (state.isTensor()) pass.tap(pass.sites[next].name, state.toTensor());
    ++next;
  }

  if (!pass.resumed) {
    auto memory = std::make_shared<Kept>();
    for (size_t slot = 0; slot < kept.size(); ++slot) {
      if (kept[slot]) memory->emplace_back(static_cast<Slot>(slot), values[slot]);
    }
    pass.memory = std::move(memory);
  }
  if (pass.only_memory) return {};
  require(values[graph.output].isTensor(), "output", "a tensor", values[graph.output].tagKind());
  return values[graph.output].toTensor();
}

}  // namespace diffmask
