#include "program/script_interpreted.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <algorithm>
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
std::vector<Slot> copy_into(jit::Graph& graph, jit::Node& node, const ScriptSlots& slots) {
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
    inputs.push_back(slots.at(value));
  }
  jit::Node* clone = graph.insertNode(
      graph.createClone(&node, [&](jit::Value* value) { return copies.at(value); }));
  for (jit::Value* output : clone->outputs()) graph.registerOutput(output);
  return inputs;
}

// `moved` for each constant in a block, and for each device that it makes of a text.
void move_constants(jit::Block& block, c10::Device device) {
  for (jit::Node* node : block.nodes()) {
    for (jit::Block* inner : node->blocks()) move_constants(*inner, device);
    if (node->outputs().size() != 1) continue;
    jit::Value& output = *node->output();
    auto value = jit::toIValue(&output);
    if (node->kind() == c10::Symbol::fromQualString("aten::device")) value = c10::IValue(device);
    if (!value || (!value->isDevice() && !value->isTensor())) continue;
    const jit::WithInsertPoint before(node);
    output.replaceAllUsesWith(block.owningGraph()->insertConstant(moved(*value, device)));
  }
}

}  // namespace

c10::IValue moved(c10::IValue constant, std::optional<c10::Device> device) {
  if (!device) return constant;
  if (constant.isDevice()) return *device;
  if (constant.isTensor() && constant.toTensor().defined()) return constant.toTensor().to(*device);
  return constant;
}

ProgramBuilder::RawStep interpreted(jit::Node& node, const ScriptSlots& slots,
                                    const std::string& name, std::optional<c10::Device> device) {
  const auto graph = std::make_shared<jit::Graph>();
  std::vector<Slot> inputs = copy_into(*graph, node, slots);
  jit::Inline(*graph);
  if (device) move_constants(*graph->block(), *device);
  ProgramBuilder::RawStep raw{
      {name,
       [code = jit::Code(graph, name)](Stack& stack) { jit::InterpreterState(code).run(stack); },
       std::move(inputs),
       {},
       node.kind().toQualString()},
      WriteFinder()(*graph),
      {},
      {}};
  if (!raw.writes.empty()) return raw;
  for (size_t i = 0; i < raw.step.inputs.size(); ++i) raw.aliases.push_back(i);
  return raw;
}

}  // namespace diffmask
