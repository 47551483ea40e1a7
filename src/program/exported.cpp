#include "diffmask/program/exported.hpp"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/program/script.hpp"
#include "program/exported_arguments.hpp"
#include "program/exported_blocks.hpp"
#include "program/exported_graph.hpp"
#include "program/exported_inputs.hpp"
#include "program/program_graph.hpp"
#include "program/python_operators.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

using Node = ExportedGraph::Node;
using ModuleCall = ExportedGraph::ModuleCall;

class ExportedLowering {
 public:
  ExportedLowering(const ProgramOptions& options, std::set<std::string>& missing, int depth)
      : options_(options), missing_(missing), depth_(depth) {
    require(depth <= kDeepestGraph, "graphs within graphs",
            fmt::format("at most {} deep", kDeepestGraph), depth);
  }

  // The whole program.
  std::unique_ptr<ProgramGraph> program(const ExportedFile& file) {
    const json& program = file.program;
    check_members(program, {"graph_module", "opset_version", "range_constraints", "schema_version",
                            "verifiers", "torch_version", "guards_code"});
    const json& module = program.at("graph_module");
    check_members(module, {"graph", "signature", "module_call_graph", "metadata",
                           "treespec_namedtuple_fields"});
    const json& graph = module.at("graph");
    auto scope = std::make_shared<ExportedGraph::Scope>();
    std::vector<std::string> inputs;
    bind_inputs(file, graph, module.at("signature"), *scope, inputs);
    const json& outputs = module.at("signature").at("output_specs");
    graph_.add(graph, scope);
    const std::string output = chosen_output(module, outputs);
    for (const json& spec : outputs) {
      const auto [kind, value] = only_member(spec);
      if (kind == "user_output") {
        for_each_name(value.at("arg"), [&](const std::string& name) {
          graph_.values[ExportedGraph::find(*scope, name)].last_use = ExportedGraph::kAlways;
        });
      }
    }
    graph_.analyse();
    lower();
    auto finished = builder_.finish(graph_.slot(*scope, output));
    finished->check_inputs = input_check(program, inputs);
    return finished;
  }

  // A graph within: its inputs in order become the graph's, its outputs a tuple.
  std::unique_ptr<ProgramGraph> block(const json& graph) {
    auto scope = std::make_shared<ExportedGraph::Scope>();
    for (const json& input : graph.at("inputs")) {
      for_each_name(input, [&](const std::string& name) {
        graph_.values[graph_.declare(*scope, name, true)].slot = builder_.input(name);
      });
    }
    graph_.add(graph, scope);
    lower();
    std::vector<Slot> outputs;
    for (const json& output : graph.at("outputs")) {
      for_each_name(output,
                    [&](const std::string& name) { outputs.push_back(graph_.slot(*scope, name)); });
    }
    return builder_.finish(builder_.construct(c10::TupleType::create({}), std::move(outputs)));
  }

 private:
  // Parameters, buffers and constants become constants of the program; the user's inputs its own.
  void bind_inputs(const ExportedFile& file, const json& graph, const json& signature,
                   ExportedGraph::Scope& scope, std::vector<std::string>& inputs) {
    const json &names = graph.at("inputs"), &specs = signature.at("input_specs");
    require(names.size() == specs.size(), "signature.input_specs",
            fmt::format("one for each of the graph's {} inputs", names.size()), specs.size());
    const auto stored = [&](const std::string& name, bool constant) {
      const auto& first = constant ? file.constants : file.weights;
      const auto found = first.find(name);
      if (found == first.end()) {
        throw Error(fmt::format("the archive has no tensor '{}', which the program uses", name));
      }
      builder_.own(name, found->second);
      return builder_.constant(found->second);
    };
    for (size_t i = 0; i < specs.size(); ++i) {
      const auto [kind, spec] = only_member(specs[i]);
      if (kind == "user_input") {
        const auto [argument, value] = only_member(spec.at("arg"));
        if (argument == "as_tensor") {
          const std::string name = to_text(value.at("name"));
          inputs.push_back(name);
          graph_.values[graph_.declare(scope, name, true)].slot = builder_.input(name);
        } else {
          require(argument == "as_none" || argument == "as_int" || argument == "as_bool" ||
                      argument == "as_float" || argument == "as_string",
                  "an input", "a tensor, or a value that was fixed when the model was exported",
                  argument);
        }
      } else if (kind == "constant_input") {
        // What it was is in the graph already.
      } else if (kind == "parameter" || kind == "buffer" || kind == "tensor_constant") {
        const std::string key = kind == "parameter" ? "parameter_name"
                                : kind == "buffer"  ? "buffer_name"
                                                    : "tensor_constant_name";
        const bool constant =
            kind == "tensor_constant" || (kind == "buffer" && !spec.at("persistent").get<bool>());
        graph_.values[graph_.declare(scope, to_text(spec.at("arg").at("name")), true)].slot =
            stored(to_text(spec.at(key)), constant);
      } else {
        throw Error(fmt::format("an input of the kind '{}' is not supported", kind));
      }
    }
  }

  // A module's call that has begun, and what its inputs were outside of it.
  struct OpenCall {
    const ModuleCall* call;
    std::vector<std::pair<size_t, Slot>> outside;
  };

  void lower() {
    std::vector<OpenCall> open;
    size_t next = 0;
    for (size_t i = 0; i <= graph_.nodes.size(); ++i) {
      for (; !open.empty() && open.back().call->end == i; open.pop_back()) close(open.back());
      if (i == graph_.nodes.size()) break;
      for (; next < graph_.calls.size() && graph_.calls[next].begin == i; ++next) {
        open.push_back({&graph_.calls[next], {}});
        begin(open.back());
      }
      const Node& node = graph_.nodes[i];
      try {
        builder_.enter(open.empty() ? "" : open.back().call->name);
        operate(node, open.empty() ? "" : open.back().call->path);
      } catch (const std::exception& error) {
        throw Error(fmt::format("node '{}' ({}): {}", node.name(), node.target(), error.what()));
      }
    }
  }

  // Within the call its inputs are what their sites give; outside they stay what they were.
  void begin(OpenCall& open) {
    const ModuleCall& call = *open.call;
    if (call.name.empty() || !options_.module_inputs) return;
    std::vector<size_t> inputs;
    for (size_t i = call.begin; i < call.end; ++i) {
      const Node& node = graph_.nodes[i];
      node.for_each_input([&](const std::string& name) {
        const size_t value = ExportedGraph::find(*node.scope, name);
        const Slot slot = graph_.values[value].slot;
        if (graph_.values[value].is_tensor && slot >= 0 && !builder_.is_constant(slot) &&
            std::find(inputs.begin(), inputs.end(), value) == inputs.end()) {
          inputs.push_back(value);
          open.outside.emplace_back(value, slot);
        }
      });
    }
    mark(call, inputs, call.name + ":input");
  }

  // A call's outputs are what later nodes read of it.
  void close(const OpenCall& open) {
    const ModuleCall& call = *open.call;
    for (const auto& [value, slot] : open.outside) graph_.values[value].slot = slot;
    if (call.name.empty()) return;
    std::vector<size_t> outputs;
    for (size_t i = call.begin; i < call.end; ++i) {
      for (const size_t output : graph_.nodes[i].outputs) {
        const ExportedGraph::Value& value = graph_.values[output];
        if (value.is_tensor && value.slot >= 0 && value.last_use >= call.end) {
          outputs.push_back(output);
        }
      }
    }
    mark(call, outputs, call.name);
  }

  void mark(const ModuleCall& call, const std::vector<size_t>& marked, const std::string& name) {
    for (size_t k = 0; k < marked.size(); ++k) {
      Slot& slot = graph_.values[marked[k]].slot;
      slot = builder_.site(marked.size() == 1 ? name : fmt::format("{}[{}]", name, k), call.type,
                           slot);
    }
  }

  // Operators.

  void operate(const Node& node, const std::string& path) {
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
        call_operator(node, name, parts[2] + "::" + parts[3],
                      parts[4] == "default" ? "" : parts[4]);
      }
    } else {
      missing_.insert(target);
      give(node, {});
    }
  }

  // A pass computes what its output needs; a check has no output.
  static bool is_assertion(const std::string& name) {
    return name.starts_with("_assert") || name.starts_with("sym_constrain_range") ||
           name.starts_with("_functional_sym_constrain");
  }

  void size_of(const Node& node, const std::string& name, const std::string& what) {
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
    give(node, {builder_.compute(name, call, std::move(inputs))});
  }

  // A file is not to make this program read or write others, or talk to anyone.
  static bool is_allowed(const std::string& name) {
    const std::string space = name.substr(0, name.find("::"));
    static const std::set<std::string> refused = {"c10d",     "_c10d_functional", "rpc",
                                                  "profiler", "inductor",         "_dtensor"};
    return !refused.contains(space) && name != "aten::from_file";
  }

  void call_operator(const Node& node, const std::string& step, const std::string& name,
                     const std::string& overload) {
    const auto op = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!op || !is_allowed(name)) {
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
      const bool trains = (argument == "train" || argument == "training") &&
                          input.at("arg").value("as_bool", false);
      require(!trains, "model", "in evaluation mode (call model.eval() before the export)",
              fmt::format("training mode, by {}", step));
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
    give(node,
         builder_.add({{step, with_gradients(node, std::move(call)), std::move(inputs), {}, name},
                       written_inputs(schema),
                       aliased_inputs(schema),
                       node.gradients ? Call() : functional_form(schema)},
                      schema.returns().size()));
  }

  static Call with_gradients(const Node& node, Call call) {
    if (!node.gradients) return call;
    return [call = std::move(call), enabled = *node.gradients](Stack& stack) {
      const c10::AutoGradMode mode(enabled);
      call(stack);
    };
  }

  // Hands a step's results to the names that the node gives them; lists are taken apart. Without
  // results, the operator being missing, the names get a stand-in, to find what else is missing.
  void give(const Node& node, const std::vector<Slot>& results) {
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

  // Higher-order operators that run as one step.

  void higher_order(const Node& node, const std::string& name, const std::string& what) {
    std::vector<std::shared_ptr<const ProgramGraph>> graphs;
    std::vector<Slot> inputs;
    std::vector<size_t> sizes;  // of the lists of operands
    for (const json& input : node.inputs()) {
      const auto [kind, value] = only_member(input.at("arg"));
      if (kind == "as_graph") {
        graphs.push_back(ExportedLowering(options_, missing_, depth_ + 1).block(value.at("graph")));
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
    const Call call = block_call(what, std::move(graphs), sizes);
    if (!call) {
      missing_.insert("the higher-order operator " + what);
      give(node, {});
      return;
    }
    const size_t outputs = node.outputs.size();
    const auto results = builder_.add(
        {{name, with_gradients(node, call), std::move(inputs), {}, what}, {}, {}, {}}, outputs);
    for (size_t i = 0; i < outputs; ++i) graph_.values[node.outputs[i]].slot = results[i];
  }

  std::string chosen_output(const json& module, const json& specs) {
    std::vector<const json*> outputs;
    for (const json& spec : specs) {
      const auto [kind, value] = only_member(spec);
      if (kind == "user_output") outputs.push_back(&value.at("arg"));
    }
    const std::vector<std::string> names = output_names(module, outputs.size());
    std::vector<std::string> tensors;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const auto [kind, value] = only_member(*outputs[i]);
      if (kind != "as_tensor") continue;
      if (options_.output.empty() || options_.output == names[i]) return to_text(value.at("name"));
      tensors.push_back(names[i]);
    }
    throw ArgumentError("output", "one of the model's", with_nearest(options_.output, tensors));
  }

  const ProgramOptions& options_;
  std::set<std::string>& missing_;
  int depth_;
  ProgramBuilder builder_;
  ExportedGraph graph_;
  ExportedArguments arguments_{builder_, graph_, options_.device};
};

}  // namespace

std::shared_ptr<Program> load_exported(const std::string& path, const ProgramOptions& options) {
  const ExportedFile file = read_exported(path, options.device);
  std::set<std::string> missing;
  try {
    auto graph = ExportedLowering(options, missing, 0).program(file);
    if (!missing.empty()) {
      throw Error(fmt::format("this LibTorch ({}) does not have, or DiffMask does not run: {}",
                              TORCH_VERSION, fmt::join(missing, ", ")));
    }
    return std::make_shared<Program>(std::move(graph));
  } catch (const ArgumentError& error) {
    if (error.argument() == "output") throw;
    throw FileError(path, fmt::format("{}: {}", file.entry, error.what()));
  } catch (const c10::Error& error) {
    throw FileError(path, fmt::format("{}: {}", file.entry, error.what_without_backtrace()));
  } catch (const std::exception& error) {
    throw FileError(path, fmt::format("{}: {}", file.entry, error.what()));
  }
}

std::shared_ptr<Program> load_program(const std::string& path, const ProgramOptions& options) {
  return is_exported(path) ? load_exported(path, options) : load_script(path, options);
}

}  // namespace diffmask
