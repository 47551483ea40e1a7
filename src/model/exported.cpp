#include "diffmask/model/exported.hpp"

#include <ATen/ScalarOps.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <set>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/model/script.hpp"
#include "model/exported_file.hpp"
#include "model/exported_inputs.hpp"
#include "model/program_graph.hpp"
#include "model/python_operators.hpp"

namespace diffmask {
namespace {

using c10::TypeKind;
using nlohmann::json;

constexpr int kDeepest = 32;  // graphs within graphs, containers within containers

// A value of the program: an operator's output, an input, or a parameter.
struct Value {
  std::string name;
  size_t made = 0;      // by the node of this number
  size_t last_use = 0;  // by the node of this number
  bool is_tensor = true;
  Slot slot = -1;
};

// The names that a graph knows: each has its own.
using Scope = std::map<std::string, size_t>;  // -> number of the value

struct Node {
  const json* source;
  std::shared_ptr<const Scope> scope;
  std::optional<bool> gradients;  // set where the source switches them on or off
  std::vector<size_t> outputs;
};

// One call of a module: the nodes [begin, end) at a level of the stack of modules.
struct ModuleCall {
  std::string key, path, type;
  size_t begin = 0, end = 0;
  std::vector<std::pair<size_t, Slot>> covered;  // what the module's inputs were outside of it
};

// {"as_tensor": {"name": N}}, {"as_tensors": [{"name": N}, ...]}, {"as_sym_int": {"as_name": N}},
// ...: calls visit(N) for each.
template <typename Visit>
void for_each_name(const json& argument, const Visit& visit) {
  const auto [kind, value] = only_member(argument);
  const auto visit_one = [&](const json& item) {
    if (item.contains("name")) visit(to_text(item.at("name")));
    if (item.contains("as_name")) visit(to_text(item.at("as_name")));
    if (item.contains("as_tensor")) visit(to_text(item.at("as_tensor").at("name")));
  };
  if (kind == "as_graph") return;
  if (value.is_object()) visit_one(value);
  if (!value.is_array()) return;
  for (const json& item : value) {
    if (item.is_object()) visit_one(item);
  }
}

bool ends_with_call_number(const std::string& key, std::string& number) {
  const size_t at = key.rfind('@');
  if (at == std::string::npos || at + 1 == key.size()) return false;
  number = key.substr(at + 1);
  return number.find_first_not_of("0123456789") == std::string::npos;
}

class ExportedLowering {
 public:
  ExportedLowering(const ProgramOptions& options, std::set<std::string>& missing, int depth)
      : options_(options), missing_(missing), depth_(depth) {
    require(depth <= kDeepest, "graphs within graphs", fmt::format("at most {} deep", kDeepest),
            depth);
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
    auto scope = std::make_shared<Scope>();
    std::vector<std::string> inputs;
    bind_inputs(file, graph, module.at("signature"), *scope, inputs);
    const json& outputs = module.at("signature").at("output_specs");
    flatten(graph, scope, {}, 0);
    const std::string output = chosen_output(module, outputs);
    const size_t result = find(*scope, output);
    mark_uses();
    values_[result].last_use = SIZE_MAX;
    for (const json& spec : outputs) {
      const auto [kind, value] = only_member(spec);
      if (kind == "user_output") {
        for_each_name(value.at("arg"), [&](const std::string& name) {
          values_[find(*scope, name)].last_use = SIZE_MAX;
        });
      }
    }
    find_calls();
    lower();
    auto finished = builder_.finish(values_[result].slot);
    finished->check_inputs = input_check(program, inputs);
    return finished;
  }

  // A graph within: its inputs in order become the graph's, its outputs a tuple.
  std::unique_ptr<ProgramGraph> block(const json& graph) {
    auto scope = std::make_shared<Scope>();
    for (const json& input : graph.at("inputs")) {
      for_each_name(input, [&](const std::string& name) {
        values_[declare(*scope, name, 0, true)].slot = builder_.input(name);
      });
    }
    flatten(graph, scope, {}, 0);
    lower();
    std::vector<Slot> outputs;
    for (const json& output : graph.at("outputs")) {
      for_each_name(output, [&](const std::string& name) {
        outputs.push_back(values_[find(*scope, name)].slot);
      });
    }
    return builder_.finish(builder_.construct(c10::TupleType::create({}), std::move(outputs)));
  }

 private:
  // Names.

  size_t declare(Scope& scope, const std::string& name, size_t made, bool is_tensor) {
    require(scope.emplace(name, values_.size()).second, "a value", "made once",
            fmt::format("'{}', which is made twice", name));
    values_.push_back({name, made, made, is_tensor});
    return values_.size() - 1;
  }

  static size_t find(const Scope& scope, const std::string& name) {
    const auto found = scope.find(name);
    require(found != scope.end(), "a value", "made before it is used",
            fmt::format("'{}', which is not", name));
    return found->second;
  }

  // Parameters, buffers and constants become constants of the program; the user's inputs its own.
  void bind_inputs(const ExportedFile& file, const json& graph, const json& signature, Scope& scope,
                   std::vector<std::string>& inputs) {
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
          values_[declare(scope, name, 0, true)].slot = builder_.input(name);
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
        values_[declare(scope, to_text(spec.at("arg").at("name")), 0, true)].slot =
            stored(to_text(spec.at(key)), constant);
      } else {
        throw Error(fmt::format("an input of the kind '{}' is not supported", kind));
      }
    }
  }

  // The nodes in order, those of graphs that are run in place among them.

  void flatten(const json& graph, const std::shared_ptr<Scope>& scope,
               std::optional<bool> gradients, int depth) {
    require(depth <= kDeepest, "graphs within graphs", fmt::format("at most {} deep", kDeepest),
            depth);
    check_members(
        graph, {"inputs", "outputs", "nodes", "tensor_values", "sym_int_values", "sym_bool_values",
                "is_single_tensor_return", "custom_obj_values", "sym_float_values"});
    for (const json& node : graph.at("nodes")) {
      check_members(
          node, {"target", "inputs", "outputs", "metadata", "is_hop_single_tensor_return", "name"});
      const std::string& target = to_text(node.at("target"));
      try {
        if (target == "torch.ops.higher_order.wrap_with_set_grad_enabled") {
          run_in_place(node, 1, scope, argument_at(node, 0, "as_bool").get<bool>(), depth);
        } else if (target == "torch.ops.higher_order.wrap_with_autocast" &&
                   !argument_at(node, 2, "as_bool").get<bool>()) {
          run_in_place(node, 4, scope, gradients, depth);
        } else {
          // What it reads has to be known here, which also rules cycles out.
          for (const json& input : node.at("inputs")) {
            for_each_name(input.at("arg"), [&](const std::string& name) { find(*scope, name); });
          }
          Node made{&node, scope, gradients, {}};
          for (const json& output : node.at("outputs")) {
            const bool is_tensor = output.contains("as_tensor") || output.contains("as_tensors");
            for_each_name(output, [&](const std::string& name) {
              made.outputs.push_back(declare(*scope, name, nodes_.size(), is_tensor));
            });
          }
          nodes_.push_back(std::move(made));
        }
      } catch (const std::exception& error) {
        throw Error(fmt::format("node '{}' ({}): {}", name_of(node), target, error.what()));
      }
    }
  }

  static std::string name_of(const json& node) {
    return node.contains("name") && node.at("name").is_string() ? to_text(node.at("name")) : "";
  }

  static const json& argument_at(const json& node, size_t i, const char* kind) {
    return node.at("inputs").at(i).at("arg").at(kind);
  }

  // A higher-order operator that runs its graph once: the graph's nodes take its place.
  void run_in_place(const json& node, size_t graph_at, const std::shared_ptr<Scope>& scope,
                    std::optional<bool> gradients, int depth) {
    const json& graph = argument_at(node, graph_at, "as_graph").at("graph");
    auto inner = std::make_shared<Scope>();
    const json& inputs = graph.at("inputs");
    const size_t operands = node.at("inputs").size() - graph_at - 1;
    require(inputs.size() == operands, "the graph's inputs", fmt::format("{}", operands),
            inputs.size());
    for (size_t i = 0; i < operands; ++i) {
      for_each_name(node.at("inputs").at(graph_at + 1 + i).at("arg"),
                    [&](const std::string& outer) {
                      for_each_name(inputs[i], [&](const std::string& name) {
                        inner->emplace(name, find(*scope, outer));
                      });
                    });
    }
    flatten(graph, inner, gradients, depth + 1);
    std::vector<size_t> results;
    for (const json& output : graph.at("outputs")) {
      for_each_name(output,
                    [&](const std::string& name) { results.push_back(find(*inner, name)); });
    }
    size_t next = 0;
    for (const json& output : node.at("outputs")) {
      for_each_name(output, [&](const std::string& name) {
        require(next < results.size(), "the graph's outputs", fmt::format("at least {}", next + 1),
                results.size());
        require(scope->emplace(name, results[next++]).second, "a value", "made once", name);
      });
    }
  }

  void mark_uses() {
    for (size_t i = 0; i < nodes_.size(); ++i) {
      for (const json& input : nodes_[i].source->at("inputs")) {
        for_each_name(input.at("arg"), [&](const std::string& name) {
          values_[find(*nodes_[i].scope, name)].last_use = i;
        });
      }
    }
  }

  // Module calls, from each node's "key,path,type;key,path,type;...", the innermost last.

  static std::vector<ModuleCall> modules_of(const json& node) {
    std::vector<ModuleCall> modules;
    if (!node.contains("metadata") || !node.at("metadata").contains("nn_module_stack")) return {};
    for (const std::string& entry :
         split(to_text(node.at("metadata").at("nn_module_stack")), ';')) {
      const size_t first = entry.find(','), last = entry.rfind(',');
      if (first == last) return {};
      const std::string type = entry.substr(last + 1);
      modules.push_back({entry.substr(0, first), entry.substr(first + 1, last - first - 1),
                         type.substr(type.rfind('.') + 1)});
    }
    // What torch's export puts there for steps of its own.
    if (modules[0].key == "_empty_nn_module_stack_from_metadata_hook") return {};
    return modules;
  }

  void find_calls() {
    std::vector<size_t> open;  // of calls_
    for (size_t i = 0; i < nodes_.size(); ++i) {
      const std::vector<ModuleCall> modules = modules_of(*nodes_[i].source);
      if (modules.empty()) {  // belongs to where it stands
        for (const size_t call : open) calls_[call].end = i + 1;
        continue;
      }
      size_t same = 0;
      while (same < open.size() && same < modules.size() &&
             calls_[open[same]].key == modules[same].key) {
        ++same;
      }
      open.resize(same);
      for (; same < modules.size(); ++same) {
        open.push_back(calls_.size());
        calls_.push_back(modules[same]);
        calls_.back().begin = i;
      }
      for (const size_t call : open) calls_[call].end = i + 1;
    }
  }

  void lower() {
    std::vector<ModuleCall*> open;
    size_t next = 0;
    for (size_t i = 0; i <= nodes_.size(); ++i) {
      for (; !open.empty() && open.back()->end == i; open.pop_back()) close(*open.back());
      if (i == nodes_.size()) break;
      for (; next < calls_.size() && calls_[next].begin == i; ++next) {
        open.push_back(&calls_[next]);
        begin(calls_[next]);
      }
      const json& node = *nodes_[i].source;
      try {
        operate(nodes_[i], open.empty() ? "" : open.back()->path);
      } catch (const std::exception& error) {
        throw Error(fmt::format("node '{}' ({}): {}", name_of(node), to_text(node.at("target")),
                                error.what()));
      }
    }
  }

  std::string site_name(const ModuleCall& call) {
    std::string number;
    std::string name = call.path;
    if (ends_with_call_number(call.key, number)) name += "#" + number;
    while (!names_.insert(name).second) name = builder_.numbered(call.path);
    return name;
  }

  void begin(ModuleCall& call) {
    if (call.path.empty() || !options_.module_inputs) return;
    std::vector<size_t> inputs;
    for (size_t i = call.begin; i < call.end; ++i) {
      for (const json& input : nodes_[i].source->at("inputs")) {
        for_each_name(input.at("arg"), [&](const std::string& name) {
          const size_t value = find(*nodes_[i].scope, name);
          const Value& v = values_[value];
          if (v.is_tensor && v.slot >= 0 && !builder_.is_constant(v.slot) &&
              std::find(inputs.begin(), inputs.end(), value) == inputs.end()) {
            inputs.push_back(value);
          }
        });
      }
    }
    mark(call, inputs, site_name_once(call) + ":input", &call.covered);
  }

  void close(ModuleCall& call) {
    for (const auto& [value, slot] : call.covered) values_[value].slot = slot;
    if (call.path.empty()) return;
    std::vector<size_t> outputs;
    for (size_t i = call.begin; i < call.end; ++i) {
      for (const size_t value : nodes_[i].outputs) {
        if (values_[value].is_tensor && values_[value].last_use >= call.end)
          outputs.push_back(value);
      }
    }
    mark(call, outputs, site_name_once(call), nullptr);
  }

  // A call's inputs and outputs share its name.
  const std::string& site_name_once(const ModuleCall& call) {
    std::string& name = site_names_[&call];
    if (name.empty()) name = site_name(call);
    return name;
  }

  void mark(const ModuleCall& call, const std::vector<size_t>& marked, const std::string& name,
            std::vector<std::pair<size_t, Slot>>* covered) {
    for (size_t k = 0; k < marked.size(); ++k) {
      Slot& slot = values_[marked[k]].slot;
      if (covered) covered->emplace_back(marked[k], slot);
      slot = builder_.site(marked.size() == 1 ? name : fmt::format("{}[{}]", name, k), call.type,
                           slot);
    }
  }

  // Operators.

  void operate(const Node& node, const std::string& path) {
    const std::string& target = to_text(node.source->at("target"));
    const std::string at = path.empty() ? "" : fmt::format(" at {}", path);
    const std::string name = fmt::format("{} '{}'{}", target, name_of(*node.source), at);
    const auto parts = split(target, '.');
    if (const Call python = python_operator(target)) {
      std::vector<Slot> inputs;
      for (const json& input : node.source->at("inputs")) {
        inputs.push_back(argument(input.at("arg"), c10::NumberType::get(), 1, node));
      }
      give(node, {builder_.compute(name, python, std::move(inputs))});
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
    for (const json& input : node.source->at("inputs")) {
      const bool is_tensor = input.at("arg").contains("as_tensor");
      inputs.push_back(argument(
          input.at("arg"),
          is_tensor ? c10::TypePtr(c10::TensorType::get()) : c10::TypePtr(c10::IntType::get()), 1,
          node));
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
    for (const json& input : node.source->at("inputs")) {
      const std::string& argument = to_text(input.at("name"));
      if (!schema.argumentIndexWithName(argument)) {
        missing_.insert(fmt::format("{} with the argument '{}'", name, argument));
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
        inputs.push_back(argument(*found->second, wanted.type(), repeat, node));
      } else {
        require(wanted.default_value().has_value(), fmt::format("argument '{}'", wanted.name()),
                "given", "none");
        inputs.push_back(builder_.constant(*wanted.default_value()));
      }
    }
    Call call = [op = *op](Stack& stack) { op.callBoxed(&stack); };
    give(node, builder_.add(schema, step, with_gradients(node, std::move(call)), std::move(inputs),
                            schema.returns().size()));
  }

  static Call with_gradients(const Node& node, Call call) {
    if (!node.gradients) return call;
    return [call = std::move(call), enabled = *node.gradients](Stack& stack) {
      const c10::AutoGradMode mode(enabled);
      call(stack);
    };
  }

  // Hands a step's results to the names that the node gives them; lists are taken apart.
  void give(const Node& node, const std::vector<Slot>& results) {
    size_t next = 0, output = 0;
    for (const json& described : node.source->at("outputs")) {
      if (output == node.outputs.size()) break;
      Slot result = -1;
      if (results.empty()) {  // an operator that is missing
        result = builder_.constant({});
      } else {
        require(next < results.size(), "outputs", fmt::format("{}", results.size()), next + 1);
        result = results[next++];
      }
      const auto [kind, value] = only_member(described);
      if (kind == "as_tensors" && !results.empty()) {
        for (const Slot slot : builder_.unpack(result, value.size())) {
          values_[node.outputs.at(output++)].slot = slot;
        }
      } else if (kind == "as_tensors") {
        for (size_t i = 0; i < value.size(); ++i) values_[node.outputs.at(output++)].slot = result;
      } else if (kind != "as_none") {
        values_[node.outputs.at(output++)].slot = result;
      }
    }
  }

  // Higher-order operators that run as one step.

  void higher_order(const Node& node, const std::string& name, const std::string& what) {
    if (what != "cond" && what != "while_loop" && what != "scan" && what != "map_impl") {
      missing_.insert("the higher-order operator " + what);
      give(node, {});
      return;
    }
    std::vector<std::shared_ptr<const ProgramGraph>> graphs;
    std::vector<Slot> inputs;
    std::vector<size_t> sizes;  // of the lists of operands
    for (const json& input : node.source->at("inputs")) {
      const auto [kind, value] = only_member(input.at("arg"));
      if (kind == "as_graph") {
        graphs.push_back(ExportedLowering(options_, missing_, depth_ + 1).block(value.at("graph")));
        continue;
      }
      const size_t before = inputs.size();
      for_each_name(input.at("arg"), [&](const std::string& operand) {
        inputs.push_back(values_[find(*node.scope, operand)].slot);
      });
      if (kind == "as_bool" || kind == "as_int") {
        inputs.push_back(argument(input.at("arg"), c10::NumberType::get(), 1, node));
      }
      sizes.push_back(inputs.size() - before);
    }
    const size_t wanted_graphs = what == "cond" || what == "while_loop" ? 2 : 1;
    const size_t wanted_lists = what == "scan" ? 3 : 2;
    require(graphs.size() == wanted_graphs, "graphs", fmt::format("{}", wanted_graphs),
            graphs.size());
    require(sizes.size() == wanted_lists, "lists of operands", fmt::format("{}", wanted_lists),
            sizes.size());
    const Call call = what == "cond"         ? conditional(graphs)
                      : what == "while_loop" ? loop(graphs, sizes)
                                             : scan(graphs, what == "scan" ? sizes[0] : 0,
                                                    what == "scan" ? sizes[1] : sizes[0]);
    const size_t outputs = node.outputs.size();
    const auto results = builder_.add(
        {{name, with_gradients(node, call), std::move(inputs), {}}, {}, {}, {}}, outputs);
    for (size_t i = 0; i < outputs; ++i) values_[node.outputs[i]].slot = results[i];
  }

  static bool is_true(const c10::IValue& value) {
    return value.isTensor() ? value.toTensor().item<bool>() : value.toBool();
  }

  static Stack run(const ProgramGraph& graph, const Stack& inputs) {
    require(inputs.size() == graph.inputs.size(), "a block's inputs",
            fmt::format("{}", graph.inputs.size()), inputs.size());
    return evaluate(graph, inputs).toTuple()->elements();
  }

  static Call conditional(std::vector<std::shared_ptr<const ProgramGraph>> graphs) {
    return [graphs = std::move(graphs)](Stack& stack) {
      const Stack operands(stack.begin() + 1, stack.end());
      stack = run(*graphs[is_true(stack[0]) ? 0 : 1], operands);
    };
  }

  static Call loop(std::vector<std::shared_ptr<const ProgramGraph>> graphs,
                   std::vector<size_t> sizes) {
    return [graphs = std::move(graphs), carried = sizes[0]](Stack& stack) {
      while (is_true(run(*graphs[0], stack).at(0))) {
        Stack next = run(*graphs[1], stack);
        require(next.size() == carried, "a loop's values", fmt::format("{}", carried), next.size());
        std::move(next.begin(), next.end(), stack.begin());
      }
      stack.resize(carried);
    };
  }

  // Over dimension 0 of `slices` operands, with the first `carried` ones handed on.
  static Call scan(std::vector<std::shared_ptr<const ProgramGraph>> graphs, size_t carried,
                   size_t slices) {
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

  // Arguments: what the file gives, as the type that the operator's schema asks for.

  Slot argument(const json& argument, c10::TypePtr type, int32_t repeat, const Node& node) {
    const auto [kind, value] = only_member(argument);
    if (kind == "as_none") return builder_.constant({});
    if (kind == "as_optional_tensor") return this->argument(value, std::move(type), repeat, node);
    if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
    if (const auto list = type->cast<c10::ListType>())
      return this->list(kind, value, *list, repeat, node);
    if (kind == "as_tensor") return values_[find(*node.scope, to_text(value.at("name")))].slot;
    if (kind == "as_sym_int" || kind == "as_sym_float" || kind == "as_sym_bool") {
      const auto [form, what] = only_member(value);
      if (form != "as_name") return builder_.constant(literal(form, what, *type));
      const Slot number = values_[find(*node.scope, to_text(what))].slot;
      if (type->kind() != TypeKind::TensorType) return number;
      return builder_.compute("a number as a tensor",
                              [](Stack& stack) { stack[0] = wrapped(stack[0].toScalar()); },
                              {number});
    }
    return builder_.constant(literal(kind, value, *type));
  }

  // "as_ints": [1, 2], "as_tensors": [...], "as_sym_ints": [{"as_int": 1}, {"as_name": "s"}], ...
  Slot list(const std::string& kind, const json& value, const c10::ListType& type, int32_t repeat,
            const Node& node) {
    c10::TypePtr element = type.getElementType();
    if (is_integer(*element)) element = c10::IntType::get();
    std::vector<Slot> elements;
    const auto add = [&](const json& item) {
      elements.push_back(argument(item, element, 1, node));
    };
    if (!value.is_array()) {
      elements.assign(static_cast<size_t>(repeat),
                      argument(json::object({{kind, value}}), element, 1, node));
    } else if (kind == "as_tensors") {
      for (const json& item : value) add(json::object({{"as_tensor", item}}));
    } else if (kind == "as_optional_tensors") {
      for (const json& item : value) add(item);
    } else {  // "as_ints" and the like: each item is an "as_int"
      for (const json& item : value) add(json::object({{kind.substr(0, kind.size() - 1), item}}));
    }
    const auto is_known = [&](Slot slot) { return builder_.is_constant(slot); };
    if (element->kind() != TypeKind::TensorType && element->kind() != TypeKind::OptionalType &&
        std::all_of(elements.begin(), elements.end(), is_known)) {
      c10::impl::GenericList known(element);
      for (const Slot slot : elements) known.push_back(builder_.value(slot));
      return builder_.constant(std::move(known));
    }
    return builder_.construct(c10::ListType::create(element), std::move(elements));
  }

  static bool is_integer(const c10::Type& type) {
    return type.kind() == TypeKind::IntType || type.kind() == TypeKind::SymIntType;
  }

  static at::Tensor wrapped(const at::Scalar& number) {
    return at::native::wrapped_scalar_tensor(number);
  }

  // JSON has no infinities: torch writes them as texts.
  static double to_double(const json& value) {
    if (!value.is_string()) {
      require(value.is_number(), "a number", "a float", value.dump());
      return value.get<double>();
    }
    const std::string& text = to_text(value);
    require(text == "Infinity" || text == "-Infinity" || text == "NaN", "a number", "a float",
            text);
    return text == "NaN" ? NAN : text == "Infinity" ? INFINITY : -INFINITY;
  }

  c10::IValue literal(const std::string& kind, const json& value, const c10::Type& type) const {
    c10::IValue result;
    if (kind == "as_int") {
      result = to_integer(value);
    } else if (kind == "as_float") {
      result = to_double(value);
    } else if (kind == "as_bool") {
      result = value.get<bool>();
    } else if (kind == "as_complex") {
      result = c10::complex<double>(to_double(value.at("real")), to_double(value.at("imag")));
    } else if (kind == "as_string") {
      return to_text(value);
    } else if (kind == "as_device") {
      return options_.device;  // where the weights are, whatever it was when it was exported
    } else if (kind == "as_scalar_type") {
      return static_cast<int64_t>(to_dtype(value));
    } else if (kind == "as_layout") {
      require(to_integer(value) == 7, "layout", "strided (7)", value.dump());
      return static_cast<int64_t>(at::kStrided);
    } else if (kind == "as_memory_format") {
      static constexpr at::MemoryFormat kFormats[] = {
          at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast,
          at::MemoryFormat::ChannelsLast3d, at::MemoryFormat::Preserve};
      const int64_t number = to_integer(value);
      require(number >= 1 && number <= 4, "memory_format", "in 1..4", number);
      return static_cast<int64_t>(kFormats[number - 1]);
    } else {
      throw Error(fmt::format("an argument of the kind '{}' is not supported", kind));
    }
    if (type.kind() == TypeKind::TensorType) return wrapped(result.toScalar());
    if (type.kind() == TypeKind::FloatType && result.isInt()) {
      return static_cast<double>(result.toInt());
    }
    return result;
  }

  // Outputs: named by the tree that they form, "[0]", "[logits]", "[1][0]".

  static void leaf_names(const json& tree, const std::string& name, int depth,
                         std::vector<std::string>& names) {
    require(depth <= kDeepest, "the output's structure", fmt::format("at most {} deep", kDeepest),
            depth);
    const json& children = tree.at("children_spec");
    if (tree.at("type").is_null()) {
      names.push_back(name);
      return;
    }
    json keys;
    if (tree.at("context").is_string()) {
      keys = json::parse(to_text(tree.at("context")), nullptr, /*allow_exceptions=*/false);
    }
    for (size_t i = 0; i < children.size(); ++i) {
      const bool is_named =
          keys.is_array() && keys.size() == children.size() && keys[i].is_string();
      const std::string key = is_named ? to_text(keys[i]) : fmt::format("{}", i);
      leaf_names(children[i], fmt::format("{}[{}]", name, key), depth + 1, names);
    }
  }

  std::string chosen_output(const json& module, const json& specs) {
    std::vector<const json*> outputs;
    for (const json& spec : specs) {
      const auto [kind, value] = only_member(spec);
      if (kind == "user_output") outputs.push_back(&value.at("arg"));
    }
    std::vector<std::string> names;
    const json& calls = module.at("module_call_graph");
    if (!calls.empty() && calls[0].at("signature").is_object()) {
      const json tree =
          json::parse(to_text(calls[0].at("signature").at("out_spec")), nullptr, false);
      if (tree.is_array() && tree.size() == 2) leaf_names(tree[1], "", 0, names);
    }
    if (names.size() != outputs.size()) {
      names.clear();
      for (size_t i = 0; i < outputs.size(); ++i) names.push_back(fmt::format("[{}]", i));
    }
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
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<ModuleCall> calls_;
  std::set<std::string> names_;
  std::map<const ModuleCall*, std::string> site_names_;
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
    if (error.argument() == "output" || error.argument() == "model") throw;
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
