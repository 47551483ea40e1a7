#include "program/exported_blocks.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

using Graphs = std::vector<std::shared_ptr<const ProgramGraph>>;

bool is_true(const c10::IValue& value) {
  return value.isTensor() ? value.toTensor().item<bool>() : value.toBool();
}

Stack run(const ProgramGraph& graph, const Stack& inputs) {
  require(inputs.size() == graph.inputs.size(), "a block's inputs",
          fmt::format("{}", graph.inputs.size()), inputs.size());
  return evaluate(graph, inputs).toTuple()->elements();
}

Call conditional(Graphs graphs) {
  return [graphs = std::move(graphs)](Stack& stack) {
    const Stack operands(stack.begin() + 1, stack.end());
    stack = run(*graphs[is_true(stack[0]) ? 0 : 1], operands);
  };
}

Call loop(Graphs graphs, size_t carried) {
  return [graphs = std::move(graphs), carried](Stack& stack) {
    while (is_true(run(*graphs[0], stack).at(0))) {
      Stack next = run(*graphs[1], stack);
      require(next.size() == carried, "a loop's values", fmt::format("{}", carried), next.size());
      std::move(next.begin(), next.end(), stack.begin());
    }
    stack.resize(carried);
  };
}

// Over dimension 0 of `slices` operands, with the first `carried` ones handed on.
Call scan(Graphs graphs, size_t carried, size_t slices) {
  return [graph = graphs[0], carried, slices](Stack& stack) {
    require(slices >= 1, "what is scanned", "at least one tensor", slices);
    const int64_t steps = stack.at(carried).toTensor().size(0);
    require(steps >= 1, "what is scanned", "not empty", steps);
    Stack inputs = stack;
    std::vector<std::vector<at::Tensor>> collected;
    for (int64_t step = 0; step < steps; ++step) {
      for (size_t i = carried; i < carried + slices; ++i) {
        inputs[i] = stack.at(i).toTensor().select(0, step);
      }
      const Stack outputs = run(*graph, inputs);
      require(outputs.size() >= carried, "a scan's outputs", fmt::format(">= {}", carried),
              outputs.size());
      std::copy(outputs.begin(), outputs.begin() + static_cast<std::ptrdiff_t>(carried),
                inputs.begin());
      collected.resize(outputs.size() - carried);
      for (size_t i = carried; i < outputs.size(); ++i) {
        collected[i - carried].push_back(outputs[i].toTensor());
      }
    }
    inputs.resize(carried);
    for (const auto& tensors : collected) inputs.emplace_back(at::stack(tensors));
    stack = std::move(inputs);
  };
}

}  // namespace

Call block_call(const std::string& name, Graphs graphs, const std::vector<size_t>& lists) {
  struct Form {
    size_t graphs, lists;
  };
  static const std::map<std::string, Form> forms = {
      {"cond", {2, 2}}, {"while_loop", {2, 2}}, {"scan", {1, 3}}, {"map_impl", {1, 2}}};
  const auto form = forms.find(name);
  if (form == forms.end()) return {};
  require(graphs.size() == form->second.graphs, name + "'s graphs",
          fmt::format("{}", form->second.graphs), graphs.size());
  require(lists.size() == form->second.lists, name + "'s lists of operands",
          fmt::format("{}", form->second.lists), lists.size());
  if (name == "cond") return conditional(std::move(graphs));
  if (name == "while_loop") return loop(std::move(graphs), lists[0]);
  return name == "scan" ? scan(std::move(graphs), lists[0], lists[1])
                        : scan(std::move(graphs), 0, lists[0]);
}

}  // namespace diffmask
