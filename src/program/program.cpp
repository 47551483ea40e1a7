#include "diffmask/program/program.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "program/program_graph.hpp"

namespace diffmask {
namespace {

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

// Whether an operator reads of its first tensor nothing but its size, dtype and the like.
bool reads_form_only(const std::string& operation) {
  static const std::set<std::string> forms = {
      "aten::size",       "aten::dim",       "aten::numel",      "aten::len",
      "aten::sym_size",   "aten::sym_numel", "aten::zeros_like", "aten::ones_like",
      "aten::empty_like", "aten::full_like", "aten::new_zeros",  "aten::new_ones",
      "aten::new_empty",  "aten::new_full",  "prim::dtype",      "prim::device",
      "prim::layout",     "aten::rand_like", "aten::randn_like"};
  return forms.contains(operation);
}

// What depends on what the inputs hold, not on their sizes alone.
Marks depends_on_inputs(const ProgramGraph& graph) {
  Marks changed(graph.known.size(), false);
  mark(graph.inputs, changed);
  for (const Step& step : graph.steps) {
    if (any(step.inputs, changed) && !reads_form_only(step.operation)) mark(step.outputs, changed);
  }
  return changed;
}

// Adds what a pass resumed from this slot will read but not compute.
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

// The values of a pass by slot, as far as they are there.
class Values {
 public:
  Values(const ProgramGraph& graph, const Inputs& inputs)
      : graph_(graph), values_(graph.constants), available_(graph.known) {
    graph.check(inputs);
    for (size_t i = 0; i < graph.inputs.size(); ++i) give(graph.inputs[i], inputs[i]);
  }

  void give(Slot slot, c10::IValue value) {
    values_[slot] = std::move(value);
    available_[slot] = true;
  }

  bool has(Slot slot) const { return available_[slot]; }
  const c10::IValue& operator[](Slot slot) const { return values_[slot]; }

  // Runs what the wanted values depend on and is not there yet. Others are freed after their last
  // use.
  void compute(const Marks& wanted) {
    const Plan todo = plan(graph_, wanted, available_);
    Stack stack;
    for (size_t i = 0; i < graph_.steps.size(); ++i) {
      if (!todo.run[i]) continue;
      const Step& step = graph_.steps[i];
      const auto is_last_use = [&](Slot slot) { return todo.last_use[slot] == i; };
      for (const Slot slot : step.inputs) {
        const bool once = std::count(step.inputs.begin(), step.inputs.end(), slot) == 1;
        if (once && is_last_use(slot)) {
          stack.push_back(std::move(values_[slot]));
        } else {
          stack.push_back(values_[slot]);
        }
      }
      step.run(stack);
      for (size_t output = step.outputs.size(); output-- > 0; stack.pop_back()) {
        values_[step.outputs[output]] = std::move(stack.back());
      }
      for (const Slot slot : step.inputs) {
        if (is_last_use(slot)) values_[slot] = c10::IValue();
      }
    }
  }

  at::Tensor output() const {
    const c10::IValue& output = values_[graph_.output];
    require(output.isTensor(), "output", "a tensor", output.tagKind());
    return output.toTensor();
  }

 private:
  const ProgramGraph& graph_;
  Stack values_;
  Marks available_;
};

// What a recording holds for the passes that resume from it.
class Memory {
 public:
  // What passes resumed from any of these slots read but do not compute, and x does not give.
  static Marks needed(const ProgramGraph& graph, const std::vector<Slot>& sites,
                      const Values& values) {
    Marks kept(graph.known.size(), false);
    for (const Slot slot : sites) mark_kept(graph, slot, kept);
    for (size_t slot = 0; slot < kept.size(); ++slot) {
      kept[slot] = kept[slot] && !values.has(static_cast<Slot>(slot));
    }
    return kept;
  }

  Memory(const Marks& needed, const Values& values) {
    for (size_t slot = 0; slot < needed.size(); ++slot) {
      const auto s = static_cast<Slot>(slot);
      if (needed[slot]) values_.emplace_back(s, values[s]);
    }
  }

  void give_unchanged(const Marks& changed, Values& values) const {
    for (const auto& [slot, value] : values_) {
      if (!changed[slot]) values.give(slot, value);
    }
  }

 private:
  std::vector<std::pair<Slot, c10::IValue>> values_;
};

std::vector<Slot> slots_of(const ProgramGraph& graph, const std::vector<Site>& sites) {
  std::vector<Slot> slots;
  for (const Site& site : sites) slots.push_back(graph.sites[site.depth].slot);
  return slots;
}

}  // namespace

Program::Program(std::shared_ptr<const ProgramGraph> graph) : graph_(std::move(graph)) {
  std::vector<int64_t> made_by(graph_->known.size(), -1);
  for (size_t i = 0; i < graph_->steps.size(); ++i) {
    for (const Slot slot : graph_->steps[i].outputs) made_by[slot] = static_cast<int64_t>(i);
  }
  const Marks varies = depends_on_inputs(*graph_);
  for (const auto& site : graph_->sites) {
    sites_.push_back({site.name, static_cast<int64_t>(sites_.size()), site.type, made_by[site.slot],
                      site.is_input, !varies[site.slot]});
  }
}

Program::~Program() = default;

std::map<std::string, at::Tensor> Program::tensors() const { return graph_->tensors; }

std::shared_ptr<const Program> Program::program(const Inputs&) const {
  return std::make_shared<Program>(graph_);
}

std::vector<std::string> Program::chance() const { return effects_in(*graph_); }

int64_t Program::steps() const { return static_cast<int64_t>(graph_->steps.size()); }

at::Tensor Program::run(Pass& pass) const {
  Values values(*graph_, pass.inputs);
  const std::vector<Slot> sites = slots_of(*graph_, pass.sites);
  const Marks needed = Memory::needed(*graph_, sites, values);
  Marks wanted = needed;
  wanted[graph_->output] = true;
  mark(sites, wanted);
  values.compute(wanted);
  for (size_t i = 0; i < sites.size(); ++i) {
    const c10::IValue& state = values[sites[i]];
    if (state.isTensor()) pass.tap(pass.sites[i].name, state.toTensor());
  }
  pass.memory = std::make_shared<Memory>(needed, values);
  return values.output();
}

at::Tensor Program::resume_from(Pass& pass) const {
  Values values(*graph_, pass.inputs);
  const std::vector<Slot> sites = slots_of(*graph_, pass.sites);
  if (const auto* memory = static_cast<const Memory*>(pass.memory.get())) {
    memory->give_unchanged(dependent(*graph_, sites), values);
  }
  for (size_t i = 0; i < sites.size(); ++i) {
    values.give(sites[i], pass.tap(pass.sites[i].name, at::Tensor()));
  }
  Marks wanted(graph_->known.size(), false);
  wanted[graph_->output] = true;
  values.compute(wanted);
  return values.output();
}

void Program::carry(Pass& pass) const {
  Values values(*graph_, pass.inputs);
  const std::vector<Slot> sites = slots_of(*graph_, pass.sites);
  const Marks needed = Memory::needed(*graph_, sites, values);
  for (size_t i = 0; i < sites.size(); ++i) {
    values.give(sites[i], pass.tap(pass.sites[i].name, at::Tensor()));
  }
  values.compute(needed);
  pass.memory = std::make_shared<Memory>(needed, values);
}

}  // namespace diffmask
