#include "program/modes.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <utility>

#include "diffmask/core/error.hpp"
#include "program/program_graph.hpp"
#include "program/tape.hpp"

namespace diffmask {
namespace {

int64_t index_of(const c10::FunctionSchema& schema, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (const auto index = schema.argumentIndexWithName(name)) return *index;
  }
  return -1;
}

// Whether LibTorch says that it takes numbers from a generator.
bool can_draw(const c10::FunctionSchema& schema) {
  const auto op = c10::Dispatcher::singleton().findSchema({schema.name(), schema.overload_name()});
  if (op && op->hasTag(at::Tag::nondeterministic_seeded)) return true;
  return index_of(schema, {"generator"}) >= 0;
}

bool is_number(const c10::IValue* value, double number) {
  return value && (value->isDouble() || value->isInt()) && value->toScalar().toDouble() == number;
}

bool may_be_true(int64_t flag, const Known& known) {
  if (flag < 0) return true;
  const c10::IValue* value = known(static_cast<size_t>(flag));
  return !value || !value->isBool() || value->toBool();
}

// Its dropout has nothing to drop.
bool drops_nothing(const c10::FunctionSchema& schema, const Known& known) {
  const int64_t rate = index_of(schema, {"p", "dropout_p", "dropout"});
  if (rate < 0) return false;
  if (is_number(known(static_cast<size_t>(rate)), 0)) return true;
  // A recurrent operator drops between its layers.
  const int64_t layers = index_of(schema, {"num_layers"});
  return layers >= 0 && is_number(known(static_cast<size_t>(layers)), 1);
}

// Writes that leave the next pass as it is: to renormalise twice is to do so once, and what
// concerns gradients is no number.
bool is_harmless(const std::string& name) {
  static const std::set<std::string> harmless = {"aten::embedding_renorm_", "aten::detach_",
                                                 "aten::requires_grad_"};
  return harmless.contains(name);
}

}  // namespace

bool reaches_outside(const std::string& name) {
  static const std::set<std::string> spaces = {"c10d",     "_c10d_functional", "rpc",
                                               "profiler", "inductor",         "_dtensor"};
  return spaces.contains(name.substr(0, name.find("::"))) || name == "aten::from_file" ||
         name == "aten::save";
}

std::string Effects::describe() const {
  std::vector<std::string> parts;
  if (draws) parts.push_back("draws random numbers");
  if (!written.empty()) parts.push_back(fmt::format("writes into {}", fmt::join(written, ", ")));
  return fmt::format("{}", fmt::join(parts, " and "));
}

int64_t training_flag(const c10::FunctionSchema& schema) {
  return index_of(schema, {"train", "training", "use_input_stats"});
}

Effects effects_of(const c10::FunctionSchema& schema, const Known& known, const Stored& stored) {
  Effects effects;
  const int64_t flag = training_flag(schema);
  if (!may_be_true(flag, known)) return effects;
  if (can_draw(schema)) {
    effects.is_idle = drops_nothing(schema, known);
    effects.draws = !effects.is_idle;
  }
  const std::vector<size_t> declared = written_inputs(schema);
  const auto is_declared = [&](size_t argument) {
    return std::find(declared.begin(), declared.end(), argument) != declared.end();
  };
  if (flag >= 0 && !schema.name().ends_with("_functional")) {
    for (const char* name : {"running_mean", "running_var"}) {
      const int64_t index = index_of(schema, {name});
      if (index < 0 || is_declared(static_cast<size_t>(index))) continue;
      const c10::IValue* value = known(static_cast<size_t>(index));
      if (value && value->isNone()) continue;
      effects.statistics.push_back(static_cast<size_t>(index));
      const std::string which = stored(static_cast<size_t>(index));
      effects.written.push_back(which.empty() ? name : which);
    }
  }
  if (is_harmless(schema.name())) return effects;
  for (const size_t argument : declared) {
    const std::string which = stored(argument);
    if (!which.empty()) effects.written.push_back(which);
  }
  return effects;
}

bool is_view(const c10::FunctionSchema& schema) {
  static const std::set<std::string> may_copy = {
      "aten::to",      "aten::contiguous", "aten::reshape",     "aten::reshape_as",
      "aten::flatten", "aten::ravel",      "aten::cpu",         "aten::cuda",
      "aten::type_as", "aten::conj",       "aten::resolve_conj"};
  return !aliased_inputs(schema).empty() && !may_copy.contains(schema.name());
}

// Not deepcopy() where there are tensors: in LibTorch 1.13 it takes two pieces of one storage for
// the same.
c10::IValue copy_of(const c10::IValue& value) {
  if (!value.isTensor() && !value.isTuple() && !value.isList()) return value.deepcopy();
  std::unordered_map<const c10::TensorImpl*, at::Tensor> copies;
  return map_tensors(value, [&](const at::Tensor& tensor) {
    at::Tensor& copied = copies[tensor.unsafeGetTensorImpl()];
    if (!copied.defined() && tensor.defined()) copied = tensor.clone();
    return copied;
  });
}

namespace {

// Sets a generator while it lives.
class Seeded {
 public:
  Seeded(at::Generator generator, uint64_t seed)
      : generator_(std::move(generator)), state_(generator_.get_state()) {
    generator_.set_current_seed(seed);
  }
  ~Seeded() { generator_.set_state(state_); }
  Seeded(const Seeded&) = delete;

 private:
  at::Generator generator_;
  at::Tensor state_;
};

}  // namespace

Call seeded(Call call, uint64_t seed, c10::Device device) {
  return [call = std::move(call), seed, device](Stack& stack) {
    static std::mutex one_at_a_time;  // the default generators are everyone's
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    const Seeded cpu(at::detail::getDefaultCPUGenerator(), seed);
    if (device.is_cpu()) return call(stack);
    const Seeded other(at::globalContext().defaultGenerator(device), seed);
    call(stack);
  };
}

Call on_copies(Call call, std::vector<size_t> inputs) {
  return [call = std::move(call), inputs = std::move(inputs)](Stack& stack) {
    for (const size_t input : inputs) stack.at(input) = copy_of(stack.at(input));
    call(stack);
  };
}

std::vector<bool> needed_steps(const ProgramGraph& graph) {
  std::vector<bool> slots(graph.known.size(), false), steps(graph.steps.size(), false);
  slots[static_cast<size_t>(graph.output)] = true;
  for (const auto& site : graph.sites) slots[static_cast<size_t>(site.slot)] = true;
  for (size_t i = graph.steps.size(); i-- > 0;) {
    const Step& step = graph.steps[i];
    steps[i] = std::any_of(step.outputs.begin(), step.outputs.end(),
                           [&](Slot slot) { return slots[static_cast<size_t>(slot)]; });
    if (!steps[i]) continue;
    for (const Slot slot : step.inputs) slots[static_cast<size_t>(slot)] = true;
  }
  return steps;
}

std::vector<std::string> effects_in(const ProgramGraph& graph) {
  std::vector<std::string> found;
  const std::vector<bool> needed = needed_steps(graph);
  for (size_t i = 0; i < graph.steps.size(); ++i) {
    const Step& step = graph.steps[i];
    if (!needed[i] || step.effect.empty()) continue;
    const std::string at = step.module.empty() ? "in the model itself" : "at " + step.module;
    found.push_back(fmt::format("{} {}, which {}", step.operation, at, step.effect));
  }
  return found;
}

void check_effects(const ProgramGraph& graph, const ProgramOptions& options) {
  if (options.allow_chance) return;
  const std::vector<std::string> found = effects_in(graph);
  require(found.empty(), "model",
          "in evaluation mode: no operator may draw random numbers or write into buffers (call "
          "model.eval() before it is saved, or allow it: --allow-chance, "
          "ProgramOptions::allow_chance)",
          fmt::format("{}", fmt::join(found, "; ")));
}

namespace {

std::string text_of(const c10::IValue& value) {
  std::ostringstream text;
  if (value.isTensor()) {
    const at::Tensor tensor = value.toTensor();
    text << "tensor ";
    if (tensor.defined()) text << tensor.data_ptr() << tensor.sizes() << tensor.strides();
  } else if (value.isObject()) {
    text << "object " << value.toObject().get();
  } else {
    text << value;
  }
  return text.str();
}

// What each needed step does, with values named by the order in which they are made.
std::vector<std::pair<std::string, const Step*>> texts_of(const ProgramGraph& graph) {
  std::vector<std::pair<std::string, const Step*>> texts;
  const std::vector<bool> needed = needed_steps(graph);
  std::map<Slot, std::string> names;
  for (size_t i = 0; i < graph.inputs.size(); ++i) names[graph.inputs[i]] = fmt::format("x{}", i);
  const auto name_of = [&](Slot slot) {
    const auto s = static_cast<size_t>(slot);
    return graph.known[s] ? text_of(graph.constants[s]) : names[slot];
  };
  for (size_t i = 0; i < graph.steps.size(); ++i) {
    if (!needed[i]) continue;
    const Step& step = graph.steps[i];
    std::string text = step.name + " " + step.operation;
    for (const Slot slot : step.inputs) text += fmt::format(" {}", name_of(slot));
    for (const Slot slot : step.outputs) names[slot] = fmt::format("v{}", names.size());
    texts.emplace_back(std::move(text), &step);
  }
  texts.emplace_back(fmt::format("output {}", name_of(graph.output)), nullptr);
  return texts;
}

}  // namespace

std::string first_difference(const ProgramGraph& graph, const ProgramGraph& other) {
  const auto mine = texts_of(graph), theirs = texts_of(other);
  for (size_t i = 0; i < mine.size(); ++i) {
    if (i < theirs.size() && mine[i].first == theirs[i].first) continue;
    const Step* step = mine[i].second;
    if (!step) return "its output";
    return fmt::format("{} {}", step->operation,
                       step->module.empty() ? "in the model itself" : "at " + step->module);
  }
  return mine.size() == theirs.size() ? "" : "its output";
}

}  // namespace diffmask
