#include "program/tape.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <string>
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

bool has_gradients(const at::Tensor& tensor) {
  return at::isFloatingType(tensor.scalar_type()) || at::isComplexType(tensor.scalar_type());
}

at::Tensor leaf_of(const at::Tensor& tensor) { return tensor.detach().requires_grad_(true); }

// Without a history that ends in "not implemented", of operators that have no derivative.
at::Tensor without_stub(const at::Tensor& tensor) {
  const auto& history = tensor.defined() ? tensor.grad_fn() : nullptr;
  const bool stub = history && history->name().find("NotImplemented") != std::string::npos;
  return stub ? tensor.detach() : tensor;
}

// Half precision has too few digits for differences.
at::Tensor in_float(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  const at::ScalarType type = tensor.scalar_type();
  return type == at::kHalf || type == at::kBFloat16 ? tensor.to(at::kFloat) : tensor;
}

bool is_half(const c10::IValue& value) {
  std::vector<at::Tensor> tensors;
  append_tensors(value, tensors);
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const at::Tensor& t) { return !in_float(t).is_same(t); });
}

c10::IValue in_float(const c10::IValue& value) {
  return is_half(value)
             ? map_tensors(value, [](const at::Tensor& tensor) { return in_float(tensor); })
             : value;
}

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

Tape::Tape(const ProgramGraph& graph, const Inputs& inputs, const std::vector<Slot>& roots,
           Explained explained)
    : output_(graph.output), explained_(explained), values_(graph.constants) {
  graph.check(inputs);
  for (c10::IValue& constant : values_) constant = in_float(constant);
  const std::unordered_set<Slot> starts(roots.begin(), roots.end());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const c10::IValue input = in_float(inputs[i].detach());
    const at::Tensor tensor = input.toTensor();
    const bool is_root =
        starts.contains(graph.inputs[i]) && at::isFloatingType(tensor.scalar_type());
    values_[static_cast<size_t>(graph.inputs[i])] = is_root ? leaf_of(tensor) : tensor;
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

bool Tape::depends(const at::Tensor& tensor) const {
  return is_explained(tensor) ||
         (tensor.defined() && maker_.contains(tensor.unsafeGetTensorImpl()));
}

// Whether what it gives is explained also without a gradient.
bool Tape::is_followed(const Step& step, const Stack& stack) const {
  if (holds_others(step)) return false;
  std::vector<at::Tensor> inputs;
  for (const c10::IValue& input : stack) append_tensors(input, inputs);
  const auto any = [&](const auto& is) { return std::any_of(inputs.begin(), inputs.end(), is); };
  if (!any([this](const at::Tensor& tensor) { return depends(tensor); })) return false;
  const std::string& name = step.operation;
  const bool others = name.find("::") != std::string::npos && !name.starts_with("aten::") &&
                      !name.starts_with("prim::");
  return explained_ == Explained::differences || others ||
         name.starts_with("aten::quantize_per_") ||
         any([](const at::Tensor& tensor) { return tensor.defined() && tensor.is_quantized(); });
}

void Tape::run(const Step& step, const std::unordered_set<Slot>& roots) {
  Stack stack = inputs_of(step);
  const bool followed = is_followed(step, stack);
  step.run(stack);
  std::vector<Made> made;
  for (size_t k = 0; k < step.outputs.size(); ++k) {
    const bool root = roots.contains(step.outputs[k]);
    const auto own = [&](const at::Tensor& given) {
      const at::Tensor tensor = without_stub(in_float(given));
      if (!tensor.defined()) return tensor;
      const bool starts = root && at::isFloatingType(tensor.scalar_type());
      const bool depends = followed || is_explained(tensor);
      if (!starts && !depends) return tensor;
      const at::Tensor leaf = has_gradients(tensor) ? leaf_of(tensor) : tensor.detach();
      if (!depends) return leaf;
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
  values[static_cast<size_t>(site)] = in_float(state);
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
      values[static_cast<size_t>(step.outputs[k])] = in_float(stack.back());
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

// Conditions and indices are given amounts as numbers are.
at::TensorOptions amounts_of(const at::Tensor& value, const at::Tensor& seed) {
  return has_gradients(value) ? value.options() : value.options().dtype(seed.scalar_type());
}

}  // namespace

Operation Tape::operation(size_t i, const Filter& wanted) const {
  const Step& step = steps_[i];
  Operation result{step, {}, {}, false, {}};
  std::vector<at::Tensor> of_decided;
  for (const Made& made : made_[i]) {
    const bool differentiable = is_explained(made.output);
    (differentiable ? result.outputs : result.decided).push_back(made.output);
    (differentiable ? result.read : of_decided).push_back(made.leaf);
  }
  result.read.insert(result.read.end(), of_decided.begin(), of_decided.end());
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
  std::vector<at::Tensor> all;
  for (const c10::IValue& value : interesting) append_tensors(value, all);
  for (const at::Tensor& tensor : all) {
    const bool known = std::any_of(result.deciding.begin(), result.deciding.end(),
                                   [&](const at::Tensor& other) { return other.is_same(tensor); });
    if (!known && !is_explained(tensor) && depends(tensor)) result.deciding.push_back(tensor);
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
    std::vector<at::Tensor> given, of_decided;
    bool any = false;
    for (const Made& made : made_[i]) {
      at::Tensor amount = arrived(made.leaf);
      any = any || amount.defined();
      if (!amount.defined()) amount = at::zeros(made.leaf.sizes(), amounts_of(made.leaf, seed));
      (is_explained(made.output) ? given : of_decided).push_back(amount);
      if (!keep) arrived.forget(made.leaf);
    }
    if (!any) continue;
    given.insert(given.end(), of_decided.begin(), of_decided.end());
    const Operation operation = this->operation(i, wanted);
    if (operation.varying.empty() && operation.deciding.empty()) continue;
    for (const Share& share : rule(operation, given)) arrived.add(share.to, share.amount);
  }
  std::vector<at::Tensor> result;
  for (const Slot site : sites) {
    result.push_back(value(site).isTensor() ? arrived(value(site).toTensor()) : at::Tensor());
  }
  return result;
}

}  // namespace diffmask
