#include "diffmask/program/exported.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/libtorch.hpp"
#include "diffmask/program/script.hpp"
#include "program/exported_arguments.hpp"
#include "program/exported_graph.hpp"
#include "program/exported_inputs.hpp"
#include "program/exported_operators.hpp"
#include "program/program_graph.hpp"

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
    auto finished = builder_.finish(graph_.slot(*scope, output), options_.inputs);
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
    const auto stored = [&](const std::string& name, bool constant, bool is_lifted) {
      const auto& first = constant ? file.constants : file.weights;
      const auto found = first.find(name);
      if (found == first.end()) {
        throw Error(fmt::format("the archive has no tensor '{}', which the program uses", name));
      }
      builder_.weight(name, found->second);
      const Slot slot = builder_.constant(found->second);
      if (!is_lifted) builder_.mark_stored(slot, name);
      return slot;
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
            stored(to_text(spec.at(key)), constant, kind == "tensor_constant");
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
        operators_.operate(node, open.empty() ? "" : open.back().call->path);
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
  ProgramBuilder builder_{options_};
  ExportedGraph graph_;
  ExportedArguments arguments_{builder_, graph_, options_.device};
  ExportedOperators operators_{
      builder_, graph_, arguments_, missing_, [this](const json& inner) {
        return ExportedLowering(options_, missing_, depth_ + 1).block(inner);
      }};
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
    check_effects(*graph, options);
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
