#include "program/program_graph.hpp"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "program/fused.hpp"
#include "program/write_once.hpp"

namespace diffmask {
namespace {

// The operators of one schema argument or return that name a storage: "Tensor(a)", "Tensor(a!)".
std::vector<size_t> aliasing(const std::vector<c10::Argument>& arguments, bool writes_only) {
  std::vector<size_t> result;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::AliasInfo* alias = arguments[i].alias_info();
    if (alias && (alias->isWrite() || !writes_only)) result.push_back(i);
  }
  return result;
}

}  // namespace

std::vector<size_t> written_inputs(const c10::FunctionSchema& schema) {
  return aliasing(schema.arguments(), /*writes_only=*/true);
}

std::vector<size_t> aliased_inputs(const c10::FunctionSchema& schema) {
  if (aliasing(schema.returns(), false).empty()) return {};
  return aliasing(schema.arguments(), /*writes_only=*/false);
}

Call functional_form(const c10::FunctionSchema& schema) {
  const std::string& name = schema.name();
  if (name.size() < 3 || name.back() != '_' || name[name.size() - 2] == '_') return {};
  const auto handle = c10::Dispatcher::singleton().findSchema(
      {name.substr(0, name.size() - 1), schema.overload_name()});
  if (!handle || handle->schema().arguments().size() != schema.arguments().size() ||
      handle->schema().returns().size() != 1 || written_inputs(schema) != std::vector<size_t>{0}) {
    return {};
  }
  return [op = *handle](Stack& stack) {
    const auto self = stack[0].toTensor();
    op.callBoxed(&stack);
    const at::Tensor result = stack.back().toTensor();
    if (result.scalar_type() != self.scalar_type() || result.sizes() != self.sizes()) {
      stack.back() = result.to(self.scalar_type()).expand_as(self);
    }
  };
}

namespace {

std::vector<size_t> all_of(const std::vector<Slot>& slots) {
  std::vector<size_t> numbers(slots.size());
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

}  // namespace

void Step::run(Stack& stack) const {
  try {
    call(stack);
    require(stack.size() == outputs.size(), "outputs", fmt::format("{}", outputs.size()),
            stack.size());
  } catch (const c10::Error& error) {
    throw Error(fmt::format("{}: {}", name, error.what_without_backtrace()));
  } catch (const std::exception& error) {
    throw Error(fmt::format("{}: {}", name, error.what()));
  }
}

void ProgramGraph::check(const Inputs& given) const {
  require(given.size() == inputs.size(), "inputs",
          fmt::format("{} ({})", inputs.size(), fmt::join(input_names, ", ")), given.size());
  if (check_inputs) check_inputs(given);
}

c10::IValue evaluate(const ProgramGraph& graph, const Stack& inputs) {
  Stack values = graph.constants, stack;
  for (size_t i = 0; i < inputs.size(); ++i) values[graph.inputs.at(i)] = inputs[i];
  for (const Step& step : graph.steps) {
    for (const Slot slot : step.inputs) stack.push_back(values[slot]);
    step.run(stack);
    for (size_t output = step.outputs.size(); output-- > 0;) {
      values[step.outputs[output]] = std::move(stack.back());
      stack.pop_back();
    }
  }
  return values[graph.output];
}

namespace {

bool is_recurrent(const std::string& operation) {
  return operation == "aten::lstm" || operation == "aten::gru" || operation == "aten::rnn_tanh" ||
         operation == "aten::rnn_relu";
}

// cuDNN gives a recurrent layer gradients in training mode alone, which with a dropout of 0 is the
// same function. Its arguments end in ..., float dropout, bool train, bool bidirectional, ...
Call with_gradients(Call call) {
  return [call = std::move(call)](Stack& stack) {
    if (stack.front().toTensor().is_cuda() && c10::GradMode::is_enabled()) {
      const auto dropout = std::find_if(stack.begin(), stack.end(),
                                        [](const c10::IValue& value) { return value.isDouble(); });
      if (dropout != stack.end() && !(dropout + 1)->toBool()) {
        *dropout = 0.0;
        *(dropout + 1) = true;
      }
    }
    call(stack);
  };
}

}  // namespace

Slot ProgramBuilder::fresh() {
  graph_.constants.emplace_back();
  graph_.known.push_back(false);
  return static_cast<Slot>(graph_.known.size()) - 1;
}

Slot ProgramBuilder::constant(c10::IValue value) {
  const Slot slot = fresh();
  graph_.constants.back() = std::move(value);
  graph_.known.back() = true;
  return slot;
}

Slot ProgramBuilder::input(std::string name) {
  graph_.input_names.push_back(std::move(name));
  graph_.inputs.push_back(fresh());
  return graph_.inputs.back();
}

void ProgramBuilder::weight(const std::string& name, const at::Tensor& tensor) {
  graph_.tensors.emplace(name, tensor);
}

std::string ProgramBuilder::enter(std::string module) {
  return std::exchange(module_, std::move(module));
}

std::vector<Slot> ProgramBuilder::add(RawStep raw, size_t outputs) {
  raw.step.module = module_;
  if (is_recurrent(raw.step.operation)) raw.step.call = with_gradients(std::move(raw.step.call));
  for (size_t i = 0; i < outputs; ++i) raw.step.outputs.push_back(fresh());
  const std::vector<Slot> slots = raw.step.outputs;
  raw_.push_back(std::move(raw));
  return slots;
}

std::string ProgramBuilder::stored(Slot slot) const {
  const auto found = stored_.find(slot);
  return found == stored_.end() ? "" : found->second;
}

std::vector<Slot> ProgramBuilder::operate(Step step, const c10::FunctionSchema& schema,
                                          Call functional, size_t outputs) {
  step.module = module_;
  if (const auto parts = in_parts(*this, step, schema)) return *parts;
  const auto slot_of = [&](size_t i) { return i < step.inputs.size() ? step.inputs[i] : -1; };
  const Effects effects = effects_of(
      schema,
      [&](size_t i) {
        const Slot slot = slot_of(i);
        return slot >= 0 && is_constant(slot) ? &value(slot) : nullptr;
      },
      [&](size_t i) { return stored(slot_of(i)); });
  if (effects.is_idle && training_flag(schema) >= 0) {
    step.inputs[static_cast<size_t>(training_flag(schema))] = constant(false);
  }
  contain(step, effects);
  std::string viewed;
  if (is_view(schema)) {
    for (const size_t input : aliased_inputs(schema)) viewed += stored(slot_of(input));
  }
  if (effects.draws) functional = {};
  const auto slots =
      add({std::move(step), written_inputs(schema), aliased_inputs(schema), std::move(functional)},
          outputs);
  if (!viewed.empty()) {
    for (const Slot slot : slots) mark_stored(slot, viewed);
  }
  return slots;
}

void ProgramBuilder::contain(Step& step, const Effects& effects) {
  step.effect = effects.describe();
  if (!effects.statistics.empty()) step.call = on_copies(std::move(step.call), effects.statistics);
  if (!effects.draws) return;
  step.call = seeded(std::move(step.call), chance_.seed + draws_++, chance_.device);
}

Slot ProgramBuilder::compute(std::string name, Call call, std::vector<Slot> inputs,
                             std::string operation) {
  return add(
      {{std::move(name), std::move(call), std::move(inputs), {}, std::move(operation)}, {}, {}, {}},
      1)[0];
}

Slot ProgramBuilder::construct(const c10::TypePtr& type, std::vector<Slot> elements) {
  Call call;
  if (type->kind() == c10::TypeKind::TupleType) {
    call = [](Stack& stack) {
      auto tuple = c10::ivalue::Tuple::create(std::vector<c10::IValue>(stack));
      stack.assign(1, std::move(tuple));
    };
  } else if (type->kind() == c10::TypeKind::ListType) {
    call = [element = type->containedType(0)](Stack& stack) {
      c10::impl::GenericList list(element);
      for (c10::IValue& value : stack) list.push_back(std::move(value));
      stack.assign(1, std::move(list));
    };
  } else {
    call = [key = type->containedType(0), value = type->containedType(1)](Stack& stack) {
      c10::impl::GenericDict dict(key, value);
      for (size_t i = 0; i < stack.size(); i += 2) dict.insert_or_assign(stack[i], stack[i + 1]);
      stack.assign(1, std::move(dict));
    };
  }
  const auto aliases = all_of(elements);
  return add({{kConstruct, std::move(call), std::move(elements), {}, kConstruct}, {}, aliases, {}},
             1)[0];
}

std::vector<Slot> ProgramBuilder::unpack(Slot container, size_t count) {
  const Call call = [count](Stack& stack) {
    const c10::IValue value = std::move(stack.back());
    stack.pop_back();
    if (value.isTuple()) {
      for (const auto& element : value.toTuple()->elements()) stack.push_back(element);
    } else {
      for (const c10::IValue& element : value.toListRef()) stack.push_back(element);
    }
    require(stack.size() == count, "a list's or tuple's size", fmt::format("{}", count),
            stack.size());
  };
  return add({{kUnpack, call, {container}, {}, kUnpack}, {}, {0}, {}}, count);
}

std::string ProgramBuilder::numbered(const std::string& name) {
  const int64_t call = calls_[name]++;
  return call == 0 ? name : fmt::format("{}#{}", name, call);
}

Slot ProgramBuilder::site(const std::string& name, const std::string& type, Slot slot) {
  const Slot marked = add({{name, [](Stack&) {}, {slot}, {}, kSite}, {}, {0}, {}}, 1)[0];
  graph_.sites.push_back({name, type, marked});
  return marked;
}

// A module may bear such a name.
void ProgramBuilder::add_input_sites() {
  std::vector<ProgramGraph::SiteSlot> sites;
  for (size_t i = 0; i < graph_.inputs.size(); ++i) {
    const std::string name = fmt::format("input{}", i);
    sites.push_back({numbered(name), "", graph_.inputs[i], /*is_input=*/true});
  }
  graph_.sites.insert(graph_.sites.begin(), sites.begin(), sites.end());
}

std::unique_ptr<ProgramGraph> ProgramBuilder::finish(Slot output, bool input_sites) {
  graph_.output = write_once(std::move(raw_), graph_, output);
  if (input_sites || graph_.sites.empty()) add_input_sites();
  return std::make_unique<ProgramGraph>(std::move(graph_));
}

}  // namespace diffmask
