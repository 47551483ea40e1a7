#include "program/script_interpreted.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

namespace diffmask {
namespace {

namespace jit = torch::jit;

// The values that a node's blocks read from outside, besides its own inputs.
void captured(jit::Block& block, std::set<const jit::Value*>& inside,
              std::vector<jit::Value*>& outside) {
  const auto read = [&](jit::Value* value) {
    if (!inside.contains(value) &&
        std::find(outside.begin(), outside.end(), value) == outside.end()) {
      outside.push_back(value);
    }
  };
  inside.insert(block.inputs().begin(), block.inputs().end());
  for (jit::Node* node : block.nodes()) {
    for (jit::Value* input : node->inputs()) read(input);
    for (jit::Block* inner : node->blocks()) captured(*inner, inside, outside);
    inside.insert(node->outputs().begin(), node->outputs().end());
  }
  for (jit::Value* output : block.outputs()) read(output);
}

// Which inputs of a graph its nodes write into, directly, through views, or in a block.
class WriteFinder {
 public:
  std::vector<size_t> operator()(jit::Graph& graph) {
    visit(*graph.block());
    std::set<const jit::Value*> sets;
    for (const jit::Value* value : written_) sets.insert(find(value));
    std::vector<size_t> result;
    for (size_t i = 0; i < graph.inputs().size(); ++i) {
      if (sets.contains(find(graph.inputs()[i]))) result.push_back(i);
    }
    return result;
  }

 private:
  const jit::Value* find(const jit::Value* value) {
    const auto found = set_.find(value);
    return found == set_.end() ? value : find(found->second);
  }
  void unite(const jit::Value* a, const jit::Value* b) {
    if (find(a) != find(b)) set_[find(a)] = find(b);
  }

  void visit(const jit::Block& block) {
    for (const jit::Node* node : block.nodes()) {
      const c10::FunctionSchema* schema = node->maybeSchema();
      if (!schema) {  // containers, attributes, casts, blocks: anything may be anything
        for (const jit::Value* output : node->outputs()) {
          for (const jit::Value* input : node->inputs()) unite(output, input);
        }
      } else {
        for (const size_t input : written_inputs(*schema)) written_.push_back(node->input(input));
        for (const size_t input : aliased_inputs(*schema)) {
          for (const jit::Value* output : node->outputs()) unite(output, node->input(input));
        }
      }
      for (const jit::Block* inner : node->blocks()) {
        visit(*inner);
        for (const jit::Value* within : inner->inputs()) {
          for (const jit::Value* input : node->inputs()) unite(within, input);
        }
        for (const jit::Value* within : inner->outputs()) {
          for (const jit::Value* output : node->outputs()) unite(within, output);
        }
      }
    }
  }

  std::map<const jit::Value*, const jit::Value*> set_;
  std::vector<const jit::Value*> written_;
};

// The node in a graph of its own, whose inputs are what it reads from outside. Gives their slots.
std::vector<Slot> copy_into(jit::Graph& graph, jit::Node& node, const ScriptSlots& slots,
                            const std::function<Slot(Slot)>& current) {
  std::vector<jit::Value*> outside(node.inputs().begin(), node.inputs().end());
  std::set<const jit::Value*> inside;
  for (jit::Block* block : node.blocks()) captured(*block, inside, outside);
  std::unordered_map<jit::Value*, jit::Value*> copies;
  std::vector<Slot> inputs;
  for (jit::Value* value : outside) {
    if (copies.contains(value)) continue;
    if (!slots.contains(value)) {  // a function to be called
      const auto same = [](jit::Value* v) { return v; };
      copies[value] = graph.insertNode(graph.createClone(value->node(), same))->output();
      continue;
    }
    copies[value] = graph.addInput()->copyMetadata(value);
    inputs.push_back(current(slots.at(value)));
  }
  jit::Node* clone = graph.insertNode(
      graph.createClone(&node, [&](jit::Value* value) { return copies.at(value); }));
  for (jit::Value* output : clone->outputs()) graph.registerOutput(output);
  return inputs;
}

// Runs in place what a block forks, and moves constants, and devices that it makes of a text.
void settle(jit::Block& block, std::optional<c10::Device> device) {
  for (auto it = block.nodes().begin(); it != block.nodes().end();) {
    jit::Node* node = *it++;
    for (jit::Block* inner : node->blocks()) settle(*inner, device);
    const jit::WithInsertPoint here(node);
    jit::Graph& graph = *node->owningGraph();
    jit::Value* instead = nullptr;
    if (node->kind() == c10::prim::fork) {
      const std::shared_ptr<jit::Graph> forked = node->g(c10::attr::Subgraph)->copy();
      jit::Inline(*forked);
      settle(*forked->block(), device);
      instead = jit::insertGraph(graph, *forked, node->inputs()).at(0);
    } else if (node->kind() == c10::Symbol::fromQualString("aten::wait")) {
      instead = node->input();
    } else if (device && node->kind() == c10::Symbol::fromQualString("aten::device")) {
      instead = graph.insertConstant(*device);
    } else if (device && node->kind() == c10::prim::Constant) {
      const auto value = jit::toIValue(node->output());
      if (!value || (!value->isDevice() && !value->isTensor())) continue;
      instead = graph.insertConstant(moved(*value, device));
    }
    if (!instead) continue;
    node->output()->replaceAllUsesWith(instead);
    node->destroy();
  }
}

// What the operators of a step do beside giving outputs, and the flags for training that it reads.
class EffectFinder {
 public:
  EffectFinder(const jit::Graph& graph, const std::vector<Slot>& inputs,
               const ScriptSurroundings& surroundings)
      : surroundings_(surroundings) {
    for (size_t i = 0; i < inputs.size(); ++i) slots_[graph.inputs()[i]] = inputs[i];
    visit(*graph.block());
  }

  const Effects& effects() const { return effects_; }
  bool reads_training() const { return reads_training_; }

 private:
  void visit(const jit::Block& block) {
    for (const jit::Node* node : block.nodes()) {
      if (node->kind() == c10::prim::If) {
        const auto condition = known(node->input());
        for (size_t taken = 0; taken < 2; ++taken) {
          if (condition && condition->isBool() && condition->toBool() != (taken == 0)) continue;
          visit(*node->blocks().at(taken));
        }
        continue;
      }
      if (const c10::FunctionSchema* schema = node->maybeSchema()) add(*node, *schema);
      if (node->kind() == c10::prim::GetAttr && node->s(c10::attr::name) == "training") {
        const auto flag = known(node->output());
        reads_training_ |= flag && flag->isBool() && flag->toBool();
      }
      for (const jit::Block* inner : node->blocks()) visit(*inner);
    }
  }

  void add(const jit::Node& node, const c10::FunctionSchema& schema) {
    std::vector<std::optional<c10::IValue>> values;
    for (const jit::Value* input : node.inputs()) values.push_back(known(input));
    const Effects found = effects_of(
        schema, [&](size_t i) { return i < values.size() && values[i] ? &*values[i] : nullptr; },
        [&](size_t i) { return i < node.inputs().size() ? stored(node.input(i)) : ""; });
    if (found.describe().empty()) return;
    effects_.draws |= found.draws;
    effects_.written.insert(effects_.written.end(), found.written.begin(), found.written.end());
    // Whatever tensor of a module it updates, the step works on copies of the modules.
    if (found.statistics.empty()) return;
    effects_.statistics.clear();
    for (size_t i = 0; i < node.owningGraph()->inputs().size(); ++i) {
      const Slot slot = slots_.at(node.owningGraph()->inputs()[i]);
      const ProgramBuilder& builder = surroundings_.builder;
      const bool is_module = builder.is_constant(slot) && builder.value(slot).isObject();
      if (is_module || !builder.stored(slot).empty()) effects_.statistics.push_back(i);
    }
  }

  // The value of what does not depend on the pass.
  std::optional<c10::IValue> known(const jit::Value* value) const {
    const auto slot = slots_.find(value);
    if (slot != slots_.end()) {
      if (!surroundings_.builder.is_constant(slot->second)) return {};
      return surroundings_.builder.value(slot->second);
    }
    const jit::Node* node = value->node();
    if (node->kind() == c10::prim::Constant) {
      const auto constant = jit::toIValue(value);
      return constant ? *constant : c10::IValue();
    }
    if (node->kind() == c10::prim::GetAttr) {
      const auto owner = known(node->input());
      if (!owner || !owner->isObject()) return {};
      const std::string& name = node->s(c10::attr::name);
      if (name == "training" && surroundings_.evaluated) return c10::IValue(false);
      return owner->toObject()->getAttr(name);
    }
    if (node->kind() == c10::prim::If) {
      const auto condition = known(node->input());
      if (!condition || !condition->isBool()) return {};
      return known(node->blocks().at(condition->toBool() ? 0 : 1)->outputs().at(value->offset()));
    }
    return {};
  }

  // The parameter or buffer that a value is, or is a view of.
  std::string stored(const jit::Value* value) const {
    const auto slot = slots_.find(value);
    if (slot != slots_.end()) return surroundings_.builder.stored(slot->second);
    const jit::Node& node = *value->node();
    if (node.kind() == c10::prim::GetAttr && value->type()->kind() == c10::TypeKind::TensorType) {
      return node.s(c10::attr::name);
    }
    const c10::FunctionSchema* schema = node.maybeSchema();
    if (!schema || !is_view(*schema)) return "";
    return stored(node.input(aliased_inputs(*schema).at(0)));
  }

  const ScriptSurroundings& surroundings_;
  std::unordered_map<const jit::Value*, Slot> slots_;
  Effects effects_;
  bool reads_training_ = false;
};

}  // namespace

c10::IValue moved(c10::IValue constant, std::optional<c10::Device> device) {
  if (!device) return constant;
  if (constant.isDevice()) return *device;
  if (constant.isTensor() && constant.toTensor().defined()) return constant.toTensor().to(*device);
  return constant;
}

ProgramBuilder::RawStep interpreted(jit::Node& node, const ScriptSlots& slots,
                                    const std::string& name,
                                    const ScriptSurroundings& surroundings) {
  const auto graph = std::make_shared<jit::Graph>();
  std::vector<Slot> inputs = copy_into(*graph, node, slots, surroundings.current);
  jit::Inline(*graph);
  settle(*graph->block(), surroundings.device);
  const EffectFinder finder(*graph, inputs, surroundings);
  Step step{
      finder.reads_training() ? name + " in training mode" : name,
      [code = jit::Code(graph, name)](Stack& stack) { jit::InterpreterState(code).run(stack); },
      std::move(inputs),
      {},
      node.kind().toQualString()};
  surroundings.builder.contain(step, finder.effects());
  ProgramBuilder::RawStep raw{std::move(step), WriteFinder()(*graph), {}, {}};
  if (!raw.writes.empty()) return raw;
  for (size_t i = 0; i < raw.step.inputs.size(); ++i) raw.aliases.push_back(i);
  return raw;
}

}  // namespace diffmask
