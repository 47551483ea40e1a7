#include "program/exported_operators.hpp"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <map>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/libtorch.hpp"
#include "program/exported_blocks.hpp"
#include "program/modes.hpp"
#include "program/python_operators.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

using Node = ExportedGraph::Node;

// A pass computes what its output needs; a check has no output.
bool is_assertion(const std::string& name) {
  return name.starts_with("_assert") || name.starts_with("sym_constrain_range") ||
         name.starts_with("_functional_sym_constrain");
}

// Sets torch.autocast for one type of device while it lives. Its cache of casts is off: it is kept
// by where tensors lie, and holds replaced states beyond their pass.
class Autocasting {
 public:
  explicit Autocasting(const ExportedGraph::Autocast& wanted)
      : device_(wanted.device),
        was_on_(is_on(device_)),
        was_cached_(at::autocast::is_autocast_cache_enabled()),
        dtype_(dtype_of(device_)) {
    set(wanted.is_on, wanted.dtype.value_or(dtype_));
    at::autocast::set_autocast_cache_enabled(false);
  }
  ~Autocasting() {
    set(was_on_, dtype_);
    at::autocast::set_autocast_cache_enabled(was_cached_);
  }
  Autocasting(const Autocasting&) = delete;

 private:
#if DIFFMASK_TORCH_AT_LEAST(2, 4)
  static bool is_on(c10::DeviceType device) { return at::autocast::is_autocast_enabled(device); }
  static at::ScalarType dtype_of(c10::DeviceType device) {
    return at::autocast::get_autocast_dtype(device);
  }
  void set(bool on, at::ScalarType dtype) const {
    at::autocast::set_autocast_enabled(device_, on);
    at::autocast::set_autocast_dtype(device_, dtype);
  }
#else
  static bool is_on(c10::DeviceType device) {
    return device == c10::kCPU ? at::autocast::is_cpu_enabled() : at::autocast::is_enabled();
  }
  static at::ScalarType dtype_of(c10::DeviceType device) {
    return device == c10::kCPU ? at::autocast::get_autocast_cpu_dtype()
                               : at::autocast::get_autocast_gpu_dtype();
  }
  void set(bool on, at::ScalarType dtype) const {
    if (device_ == c10::kCPU) {
      at::autocast::set_cpu_enabled(on);
      at::autocast::set_autocast_cpu_dtype(dtype);
    } else {
      at::autocast::set_enabled(on);
      at::autocast::set_autocast_gpu_dtype(dtype);
    }
  }
#endif

  c10::DeviceType device_;
  bool was_on_, was_cached_;
  at::ScalarType dtype_;
};

// The call in what its source sets around it.
Call in_modes(const Node& node, Call call) {
  if (node.modes.autocast) {
    call = [call = std::move(call), autocast = *node.modes.autocast](Stack& stack) {
      const Autocasting casting(autocast);
      call(stack);
    };
  }
  if (!node.modes.gradients) return call;
  return [call = std::move(call), enabled = *node.modes.gradients](Stack& stack) {
    const c10::AutoGradMode mode(enabled);
    call(stack);
  };
}

}  // namespace

void ExportedOperators::operate(const Node& node, const std::string& path) {
  const std::string& target = node.target();
  const std::string at = path.empty() ? "" : fmt::format(" at {}", path);
  const std::string name = fmt::format("{} '{}'{}", target, node.name(), at);
  const auto parts = split(target, '.');
  if (const Call python = python_operator(target)) {
    std::vector<Slot> inputs;
    for (const json& input : node.inputs()) {
      inputs.push_back(arguments_(input.at("arg"), c10::NumberType::get(), 1, *node.scope));
    }
    give(node, {builder_.compute(name, python, std::move(inputs), target)});
  } else if (target.starts_with("torch.ops.higher_order.")) {
    higher_order(node, name, parts.back());
  } else if (parts.size() == 5 && parts[0] == "torch" && parts[1] == "ops") {
    if (is_assertion(parts[3])) return;
    if (parts[2] == "aten" && parts[3].starts_with("sym_")) {
      size_of(node, name, parts[3]);
    } else {
      call_operator(node, name, parts[2] + "::" + parts[3], parts[4] == "default" ? "" : parts[4]);
    }
  } else {
    missing_.insert(target);
    give(node, {});
  }
}

void ExportedOperators::size_of(const Node& node, const std::string& name,
                                const std::string& what) {
  std::vector<Slot> inputs;
  for (const json& input : node.inputs()) {
    const bool is_tensor = input.at("arg").contains("as_tensor");
    const c10::TypePtr type =
        is_tensor ? c10::TypePtr(c10::TensorType::get()) : c10::IntType::get();
    inputs.push_back(arguments_(input.at("arg"), type, 1, *node.scope));
  }
  const Call call = [what](Stack& stack) {
    const at::Tensor tensor = stack.at(0).toTensor();
    const int64_t dimension = stack.size() > 1 ? stack[1].toInt() : 0;
    const int64_t value = what == "sym_size"     ? tensor.size(dimension)
                          : what == "sym_stride" ? tensor.stride(dimension)
                          : what == "sym_numel"  ? tensor.numel()
                                                 : tensor.storage_offset();
    stack.assign(1, value);
  };
  give(node, {builder_.compute(name, call, std::move(inputs), "aten::" + what)});
}

void ExportedOperators::call_operator(const Node& node, const std::string& step,
                                      const std::string& name, const std::string& overload) {
  const auto op = c10::Dispatcher::singleton().findSchema({name, overload});
  if (!op || reaches_outside(name)) {
    missing_.insert(overload.empty() ? name : name + "." + overload);
    give(node, {});
    return;
  }
  const c10::FunctionSchema& schema = op->schema();
  std::map<std::string, const json*> given;
  for (const json& input : node.inputs()) {
    const std::string& argument = to_text(input.at("name"));
    if (!schema.argumentIndexWithName(argument)) {
      missing_.insert(fmt::format("{} with the argument '{}'", name, argument));
      give(node, {});
      return;
    }
    require(given.emplace(argument, &input.at("arg")).second, "an argument", "given once",
            argument);
  }
  std::vector<Slot> inputs;
  for (const c10::Argument& wanted : schema.arguments()) {
    const auto found = given.find(wanted.name());
    if (found != given.end()) {
      const int32_t repeat = wanted.N() ? *wanted.N() : 1;
      inputs.push_back(arguments_(*found->second, wanted.type(), repeat, *node.scope));
    } else {
      require(wanted.default_value().has_value(), fmt::format("argument '{}'", wanted.name()),
              "given", "none");
      inputs.push_back(builder_.constant(*wanted.default_value()));
    }
  }
  Call call = [op = *op](Stack& stack) { op.callBoxed(&stack); };
  // A write without gradients leaves its value's history as it is. So it is made into a copy,
  // which has that history; the functional form would have none.
  give(node, builder_.operate({step, in_modes(node, std::move(call)), std::move(inputs), {}, name},
                              schema, node.modes.gradients ? Call() : functional_form(schema),
                              schema.returns().size()));
}

void ExportedOperators::give(const Node& node, const std::vector<Slot>& results) {
  if (results.empty()) {
    for (const size_t output : node.outputs) graph_.values[output].slot = builder_.constant({});
    return;
  }
  size_t next = 0, output = 0;
  for (const json& described : node.source->at("outputs")) {
    if (output == node.outputs.size()) break;
    require(next < results.size(), "outputs", fmt::format("{}", results.size()), next + 1);
    const Slot result = results[next++];
    const auto [kind, value] = only_member(described);
    if (kind == "as_tensors") {
      for (const Slot slot : builder_.unpack(result, value.size())) {
        graph_.values[node.outputs.at(output++)].slot = slot;
      }
    } else if (kind != "as_none") {
      graph_.values[node.outputs.at(output++)].slot = result;
    }
  }
}

void ExportedOperators::higher_order(const Node& node, const std::string& name,
                                     const std::string& what) {
  std::vector<std::shared_ptr<const ProgramGraph>> graphs;
  std::vector<Slot> inputs;
  std::vector<size_t> sizes;  // of the lists of operands
  for (const json& input : node.inputs()) {
    const auto [kind, value] = only_member(input.at("arg"));
    if (kind == "as_graph") {
      graphs.push_back(block_(value.at("graph")));
      continue;
    }
    const size_t before = inputs.size();
    for_each_name(input.at("arg"), [&](const std::string& operand) {
      inputs.push_back(graph_.slot(*node.scope, operand));
    });
    if (kind == "as_bool" || kind == "as_int") {
      inputs.push_back(arguments_(input.at("arg"), c10::NumberType::get(), 1, *node.scope));
    }
    sizes.push_back(inputs.size() - before);
  }
  std::vector<std::string> effects;
  for (const auto& graph : graphs) {
    for (std::string& effect : effects_in(*graph)) effects.push_back(std::move(effect));
  }
  const Call call = block_call(what, std::move(graphs), sizes);
  if (!call) {
    missing_.insert("the higher-order operator " + what);
    give(node, {});
    return;
  }
  const size_t outputs = node.outputs.size();
  Step step{name, in_modes(node, call), std::move(inputs), {}, what};
  if (!effects.empty()) step.effect = fmt::format("runs {}", fmt::join(effects, ", "));
  const auto results = builder_.add({std::move(step), {}, {}, {}}, outputs);
  for (size_t i = 0; i < outputs; ++i) graph_.values[node.outputs[i]].slot = results[i];
}

}  // namespace diffmask
