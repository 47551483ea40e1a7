#include "program/tape.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <unordered_map>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "program/recurrent.hpp"

namespace diffmask {
namespace {

bool is_explained(const at::Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); }

bool holds_others(const Step& step) {
  return step.operation == kConstruct || step.operation == kUnpack;
}

at::Tensor leaf_of(const at::Tensor& tensor) { return tensor.detach().requires_grad_(true); }

std::vector<at::Tensor> explained(const Stack& values) {
  std::vector<at::Tensor> all, result;
  for (const c10::IValue& value : values) append_tensors(value, all);
  std::copy_if(all.begin(), all.end(), std::back_inserter(result), is_explained);
  return result;
}

}  // namespace

void append_tensors(const c10::IValue& value, std::vector<at::Tensor>& tensors) {
  if (value.isTensor()) {
    tensors.push_back(value.toTensor());
  } else if (value.isTuple()) {
    for (const auto& element : value.toTuple()->elements()) append_tensors(element, tensors);
  } else if (value.isTensorList() || value.isList()) {
    for (const c10::IValue& element : value.toListRef()) append_tensors(element, tensors);
  }
}

c10::IValue map_tensors(const c10::IValue& value,
                        const std::function<at::Tensor(const at::Tensor&)>& change) {
  if (value.isTensor()) return change(value.toTensor());
  if (value.isTuple()) {
    std::vector<c10::IValue> elements;
    for (const auto& element : value.toTuple()->elements()) {
      elements.push_back(map_tensors(element, change));
    }
    return c10::ivalue::Tuple::create(std::move(elements));
  }
  if (value.isList()) {
    const auto list = value.toList();
    c10::impl::GenericList result(list.elementType());
    for (const c10::IValue& element : value.toListRef()) {
      result.push_back(map_tensors(element, change));
    }
    return result;
  }
  return value;
}

std::vector<at::Tensor> Operation::gradients(const std::vector<at::Tensor>& given) const {
  std::vector<at::Tensor> result =
      torch::autograd::grad(outputs, varying, given, /*retain_graph=*/true, /*create_graph=*/false,
                            /*allow_unused=*/true);
  for (size_t i = 0; i < result.size(); ++i) {
    if (!result[i].defined()) result[i] = at::zeros_like(varying[i]);
  }
  return result;
}

std::vector<at::Tensor> Operation::call(Stack stack) const {
  step.run(stack);
  std::vector<at::Tensor> tensors;
  for (const c10::IValue& value : stack) append_tensors(value, tensors);
  return tensors;
}

Operation Operation::at(const std::vector<at::Tensor>& others) const {
  const at::AutoGradMode with_gradients(true);
  Operation result{step, {}, {}, repeated, {}};
  for (const at::Tensor& other : others) result.varying.push_back(leaf_of(other));
  for (const c10::IValue& input : inputs) {
    result.inputs.push_back(map_tensors(input, [&](const at::Tensor& tensor) {
      for (size_t i = 0; i < varying.size(); ++i) {
        if (tensor.is_same(varying[i])) return result.varying[i];
      }
      return tensor;
    }));
  }
  for (const at::Tensor& output : result.call(result.inputs)) {
    if (is_explained(output)) result.outputs.push_back(output);
  }
  return result;
}

Tape::Tape(const ProgramGraph& graph, const Inputs& inputs, const std::vector<Slot>& roots)
    : output_(graph.output), values_(graph.constants) {
  graph.check(inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    values_[static_cast<size_t>(graph.inputs[i])] = inputs[i].detach();
  }
  std::vector<bool> needed(values_.size(), false), runs(graph.steps.size(), false);
  needed[static_cast<size_t>(graph.output)] = true;
  for (const Slot root : roots) needed[static_cast<size_t>(root)] = true;
  for (size_t i = graph.steps.size(); i-- > 0;) {
    const Step& step = graph.steps[i];
    runs[i] = std::any_of(step.outputs.begin(), step.outputs.end(),
                          [&](Slot slot) { return needed[static_cast<size_t>(slot)]; });
    if (!runs[i]) continue;
    for (const Slot slot : step.inputs) needed[static_cast<size_t>(slot)] = true;
  }
  const at::AutoGradMode with_gradients(true);
  const std::unordered_set<Slot> starts(roots.begin(), roots.end());
  for (size_t i = 0; i < graph.steps.size(); ++i) {
    if (!runs[i]) continue;
    const Step& step = graph.steps[i];
    if (!is_recurrent(step)) {
      run(step, starts);
      continue;
    }
    for (const Step& part : unrolled(step, inputs_of(step), values_)) run(part, starts);
  }
  require(value(output_).isTensor(), "output", "a tensor", value(output_).tagKind());
}

Stack Tape::inputs_of(const Step& step) const {
  Stack stack;
  for (const Slot slot : step.inputs) stack.push_back(value(slot));
  return stack;
}

void Tape::run(const Step& step, const std::unordered_set<Slot>& roots) {
  Stack stack = inputs_of(step);
  step.run(stack);
  std::vector<Made> made;
  for (size_t k = 0; k < step.outputs.size(); ++k) {
    const bool root = roots.contains(step.outputs[k]);
    const auto own = [&](const at::Tensor& tensor) {
      const bool starts = root && tensor.defined() && at::isFloatingType(tensor.scalar_type());
      if (!starts && !is_explained(tensor)) return tensor;
      const at::Tensor leaf = leaf_of(tensor);
      if (!is_explained(tensor)) return leaf;
      made.push_back({tensor, leaf});
      maker_[leaf.unsafeGetTensorImpl()] = steps_.size();
      return leaf;
    };
    values_[static_cast<size_t>(step.outputs[k])] =
        holds_others(step) ? stack[k] : map_tensors(stack[k], own);
  }
  steps_.push_back(step);
  made_.push_back(std::move(made));
}

Stack Tape::resume(Slot site, const at::Tensor& state) const {
  const at::NoGradGuard no_grad;
  Stack values(values_.size()), stack;
  values[static_cast<size_t>(site)] = state;
  std::vector<bool> changed(values_.size(), false);
  changed[static_cast<size_t>(site)] = true;
  for (const Step& step : steps_) {
    if (std::none_of(step.inputs.begin(), step.inputs.end(),
                     [&](Slot slot) { return changed[static_cast<size_t>(slot)]; })) {
      continue;
    }
    for (const Slot slot : step.inputs) {
      const bool own = changed[static_cast<size_t>(slot)];
      stack.push_back(own ? values[static_cast<size_t>(slot)] : value(slot));
    }
    step.run(stack);
    for (size_t k = step.outputs.size(); k-- > 0; stack.pop_back()) {
      values[static_cast<size_t>(step.outputs[k])] = std::move(stack.back());
      changed[static_cast<size_t>(step.outputs[k])] = true;
    }
  }
  return values;
}

namespace {

// What has arrived at tensors so far.
class Arrived {
 public:
  void add(const at::Tensor& at, const at::Tensor& amount) {
    if (!amount.defined()) return;
    at::Tensor& sum = sums_[at.unsafeGetTensorImpl()];
    sum = sum.defined() ? sum + amount : amount;
  }
  at::Tensor operator()(const at::Tensor& at) const {
    const auto found = sums_.find(at.unsafeGetTensorImpl());
    return found == sums_.end() ? at::Tensor() : found->second;
  }
  void forget(const at::Tensor& at) { sums_.erase(at.unsafeGetTensorImpl()); }

 private:
  std::unordered_map<const c10::TensorImpl*, at::Tensor> sums_;
};

}  // namespace

Operation Tape::operation(size_t i, const Filter& wanted) const {
  const Step& step = steps_[i];
  Operation result{step, {}, {}, false, {}};
  for (const Made& made : made_[i]) result.outputs.push_back(made.output);
  Stack interesting;
  for (const Slot slot : step.inputs) {
    result.inputs.push_back(value(slot));
    if (!wanted || wanted(slot)) interesting.push_back(value(slot));
  }
  for (const at::Tensor& tensor : explained(interesting)) {
    const bool known = std::any_of(result.varying.begin(), result.varying.end(),
                                   [&](const at::Tensor& other) { return other.is_same(tensor); });
    result.repeated = result.repeated || known;
    if (!known) result.varying.push_back(tensor);
  }
  return result;
}

std::optional<Operation> Tape::maker(const at::Tensor& tensor, const Filter& wanted) const {
  const auto found = maker_.find(tensor.unsafeGetTensorImpl());
  if (found == maker_.end()) return {};
  return operation(found->second, wanted);
}

std::vector<at::Tensor> Tape::walk(const at::Tensor& seed, const std::vector<Slot>& sites,
                                   const Filter& wanted, const Rule& rule) const {
  const at::NoGradGuard no_grad;
  Arrived arrived;
  arrived.add(output(), seed);
  std::unordered_set<Slot> kept(sites.begin(), sites.end());
  for (size_t i = steps_.size(); i-- > 0;) {
    const Step& step = steps_[i];
    if (made_[i].empty()) continue;
    const bool keep = std::any_of(step.outputs.begin(), step.outputs.end(),
                                  [&](Slot slot) { return kept.contains(slot); });
    std::vector<at::Tensor> given;
    bool any = false;
    for (const auto& [output, leaf] : made_[i]) {
      given.push_back(arrived(leaf));
      any = any || given.back().defined();
      if (!given.back().defined()) given.back() = at::zeros_like(leaf);
      if (!keep) arrived.forget(leaf);
    }
    if (!any) continue;
    const Operation operation = this->operation(i, wanted);
    if (operation.varying.empty()) continue;
    for (const Share& share : rule(operation, given)) arrived.add(share.to, share.amount);
  }
  std::vector<at::Tensor> result;
  for (const Slot site : sites) {
    result.push_back(value(site).isTensor() ? arrived(value(site).toTensor()) : at::Tensor());
  }
  return result;
}

}  // namespace diffmask
