#include "program/exported_graph.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

const json& argument_at(const json& node, size_t i, const char* kind) {
  return node.at("inputs").at(i).at("arg").at(kind);
}

// Whether a key is the path's: "L__self__parts.0", "L__self___parts_0@1". Then the path holds what
// separators it may.
bool belongs(std::string key, std::string path) {
  const std::string root = "L__self__";
  if (!key.starts_with(root)) return false;
  key = key.substr(root.size());
  if (const size_t call = key.rfind('@'); call != std::string::npos) key = key.substr(0, call);
  for (std::string* text : {&key, &path}) {
    for (char& c : *text) {
      if (c == '.') c = '_';
    }
  }
  return key == path || key == "_" + path;
}

// A module from "key,path,type", where the path may hold commas; none where it cannot be told.
std::optional<ExportedGraph::ModuleCall> module_of(const std::string& entry) {
  const size_t last = entry.rfind(',');
  if (last == std::string::npos) return {};
  std::string type = entry.substr(last + 1);
  type = type.substr(type.rfind('.') + 1);
  for (size_t at = entry.find(','); at < last; at = entry.find(',', at + 1)) {
    const std::string key = entry.substr(0, at), path = entry.substr(at + 1, last - at - 1);
    if (belongs(key, path)) return ExportedGraph::ModuleCall{key, path, type};
  }
  return {};
}

// The modules that a node is in, outermost first, from "key,path,type;key,path,type;...". Names may
// hold commas and semicolons: an entry ends where its path is its key's.
std::vector<ExportedGraph::ModuleCall> modules_of(const json& node) {
  std::vector<ExportedGraph::ModuleCall> modules;
  if (!node.contains("metadata") || !node.at("metadata").contains("nn_module_stack")) return {};
  const auto parts = split(to_text(node.at("metadata").at("nn_module_stack")), ';');
  std::string entry;
  for (const std::string& part : parts) {
    entry += entry.empty() ? part : ";" + part;
    const auto module = module_of(entry);
    if (!module) continue;
    modules.push_back(*module);
    entry.clear();
  }
  if (!entry.empty()) {  // keys of another kind
    modules.clear();
    for (const std::string& part : parts) {
      const size_t first = part.find(','), last = part.rfind(',');
      if (first == last) return {};
      const std::string type = part.substr(last + 1);
      modules.push_back({part.substr(0, first), part.substr(first + 1, last - first - 1),
                         type.substr(type.rfind('.') + 1)});
    }
  }
  // What torch's export puts there for steps of its own.
  if (modules.empty() || modules[0].key == "_empty_nn_module_stack_from_metadata_hook") return {};
  return modules;
}

// (device type, dtype or None, whether it is on, ...).
ExportedGraph::Autocast autocast_of(const json& node) {
  const json& dtype = node.at("inputs").at(1).at("arg");
  ExportedGraph::Autocast autocast;
  autocast.device = c10::Device(to_text(argument_at(node, 0, "as_string"))).type();
  autocast.is_on = argument_at(node, 2, "as_bool").get<bool>();
  if (dtype.contains("as_scalar_type")) autocast.dtype = to_dtype(dtype.at("as_scalar_type"));
  return autocast;
}

void leaf_names(const json& tree, const std::string& name, int depth,
                std::vector<std::string>& names) {
  require(depth <= kDeepestGraph, "the output's structure",
          fmt::format("at most {} deep", kDeepestGraph), depth);
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
    const bool is_named = keys.is_array() && keys.size() == children.size() && keys[i].is_string();
    const std::string key = is_named ? to_text(keys[i]) : fmt::format("{}", i);
    leaf_names(children[i], fmt::format("{}[{}]", name, key), depth + 1, names);
  }
}

}  // namespace

std::string ExportedGraph::Node::name() const {
  const auto found = source->find("name");
  return found != source->end() && found->is_string() ? to_text(*found) : "";
}

size_t ExportedGraph::declare(Scope& scope, const std::string& name, bool is_tensor) {
  require(scope.emplace(name, values.size()).second, "a value", "made once",
          fmt::format("'{}', which is made twice", name));
  values.push_back({0, is_tensor});
  return values.size() - 1;
}

size_t ExportedGraph::find(const Scope& scope, const std::string& name) {
  const auto found = scope.find(name);
  require(found != scope.end(), "a value", "made before it is used",
          fmt::format("'{}', which is not", name));
  return found->second;
}

int64_t ExportedGraph::slot(const Scope& scope, const std::string& name) const {
  const int64_t slot = values[find(scope, name)].slot;
  require(slot >= 0, "a value", "an output that its operator has",
          fmt::format("'{}', which is not", name));
  return slot;
}

void ExportedGraph::add(const json& graph, const std::shared_ptr<Scope>& scope, const Modes& modes,
                        int depth) {
  require(depth <= kDeepestGraph, "graphs within graphs",
          fmt::format("at most {} deep", kDeepestGraph), depth);
  check_members(graph,
                {"inputs", "outputs", "nodes", "tensor_values", "sym_int_values", "sym_bool_values",
                 "is_single_tensor_return", "custom_obj_values", "sym_float_values"});
  for (const json& node : graph.at("nodes")) {
    check_members(
        node, {"target", "inputs", "outputs", "metadata", "is_hop_single_tensor_return", "name"});
    const std::string& target = to_text(node.at("target"));
    try {
      if (target == "torch.ops.higher_order.wrap_with_set_grad_enabled") {
        Modes inner = modes;
        inner.gradients = argument_at(node, 0, "as_bool").get<bool>();
        add_in_place(node, 1, scope, inner, depth);
      } else if (target == "torch.ops.higher_order.wrap_with_autocast") {
        Modes inner = modes;
        inner.autocast = autocast_of(node);
        add_in_place(node, 4, scope, inner, depth);
      } else {
        // What it reads has to be known here, which also rules cycles out.
        for (const json& input : node.at("inputs")) {
          for_each_name(input.at("arg"), [&](const std::string& name) { find(*scope, name); });
        }
        Node made{&node, scope, modes, {}};
        for (const json& output : node.at("outputs")) {
          const bool is_tensor = output.contains("as_tensor") || output.contains("as_tensors");
          for_each_name(output, [&](const std::string& name) {
            made.outputs.push_back(declare(*scope, name, is_tensor));
          });
        }
        nodes.push_back(std::move(made));
      }
    } catch (const std::exception& error) {
      throw Error(
          fmt::format("node '{}' ({}): {}", Node{&node, {}, {}, {}}.name(), target, error.what()));
    }
  }
}

// A higher-order operator that runs its graph once: the graph's nodes take its place.
void ExportedGraph::add_in_place(const json& node, size_t graph_at,
                                 const std::shared_ptr<Scope>& scope, const Modes& modes,
                                 int depth) {
  const json& graph = argument_at(node, graph_at, "as_graph").at("graph");
  auto inner = std::make_shared<Scope>();
  const json& inputs = graph.at("inputs");
  const size_t operands = node.at("inputs").size() - graph_at - 1;
  require(inputs.size() == operands, "the graph's inputs", fmt::format("{}", operands),
          inputs.size());
  for (size_t i = 0; i < operands; ++i) {
    for_each_name(node.at("inputs").at(graph_at + 1 + i).at("arg"), [&](const std::string& outer) {
      for_each_name(inputs[i],
                    [&](const std::string& name) { inner->emplace(name, find(*scope, outer)); });
    });
  }
  add(graph, inner, modes, depth + 1);
  std::vector<size_t> results;
  for (const json& output : graph.at("outputs")) {
    for_each_name(output, [&](const std::string& name) { results.push_back(find(*inner, name)); });
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

void ExportedGraph::analyse() {
  for (size_t i = 0; i < nodes.size(); ++i) {
    nodes[i].for_each_input([&](const std::string& name) {
      size_t& last_use = values[find(*nodes[i].scope, name)].last_use;
      last_use = std::max(last_use, i);
    });
  }
  std::vector<size_t> open;  // of calls
  for (size_t i = 0; i < nodes.size(); ++i) {
    const std::vector<ModuleCall> modules = modules_of(*nodes[i].source);
    if (modules.empty()) {  // belongs to where it stands
      for (const size_t call : open) calls[call].end = i + 1;
      continue;
    }
    size_t same = 0;
    while (same < open.size() && same < modules.size() &&
           calls[open[same]].key == modules[same].key) {
      ++same;
    }
    open.resize(same);
    for (; same < modules.size(); ++same) {
      open.push_back(calls.size());
      calls.push_back(modules[same]);
      calls.back().begin = i;
    }
    for (const size_t call : open) calls[call].end = i + 1;
  }
  std::map<std::string, int64_t> count;
  for (ModuleCall& call : calls) {
    if (call.path.empty()) continue;
    const int64_t number = count[call.path]++;
    call.name = number == 0 ? call.path : fmt::format("{}#{}", call.path, number);
  }
}

std::vector<std::string> output_names(const json& graph_module, size_t count) {
  std::vector<std::string> names;
  const json& calls = graph_module.at("module_call_graph");
  if (!calls.empty() && calls[0].at("signature").is_object()) {
    const std::string& spec = to_text(calls[0].at("signature").at("out_spec"));
    const json tree = json::parse(spec, nullptr, /*allow_exceptions=*/false);
    if (tree.is_array() && tree.size() == 2) leaf_names(tree[1], "", 0, names);
  }
  if (names.size() == count) return names;
  names.clear();
  for (size_t i = 0; i < count; ++i) names.push_back(fmt::format("[{}]", i));
  return names;
}

}  // namespace diffmask
