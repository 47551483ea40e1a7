#pragma once
/// \file
/// An exported program's graph as its JSON has it: values, nodes in order, calls of modules;
/// private.

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "program/exported_file.hpp"

namespace diffmask {

constexpr int kDeepestGraph = 32;  // graphs within graphs, containers within containers

/// Calls visit(N) for each name that an argument or output refers to: {"as_tensor": {"name": N}},
/// {"as_tensors": [{"name": N}, ...]}, {"as_sym_int": {"as_name": N}}, ...
template <typename Visit>
void for_each_name(const nlohmann::json& argument, const Visit& visit) {
  const auto [kind, value] = only_member(argument);
  const auto visit_one = [&](const nlohmann::json& item) {
    if (item.contains("name")) visit(to_text(item.at("name")));
    if (item.contains("as_name")) visit(to_text(item.at("as_name")));
    if (item.contains("as_tensor")) visit(to_text(item.at("as_tensor").at("name")));
  };
  if (kind == "as_graph") return;
  if (value.is_object()) visit_one(value);
  if (!value.is_array()) return;
  for (const nlohmann::json& item : value) {
    if (item.is_object()) visit_one(item);
  }
}

struct ExportedGraph {
  /// An operator's output, an input, or a parameter.
  struct Value {
    size_t last_use = 0;  // by the node of this number; kAlways: an output of the program
    bool is_tensor = true;
    int64_t slot = -1;  // of the program that is built, once it has one
  };
  static constexpr size_t kAlways = std::numeric_limits<size_t>::max();

  /// The names that a graph knows, each graph its own: numbers of values.
  using Scope = std::map<std::string, size_t>;

  /// What torch.autocast set for one type of device.
  struct Autocast {
    c10::DeviceType device = c10::kCPU;
    std::optional<at::ScalarType> dtype;  // the device's default where there is none
    bool is_on = false;
  };

  /// What the source sets around a node, and does not where it is empty.
  struct Modes {
    std::optional<bool> gradients;
    std::optional<Autocast> autocast;
  };

  struct Node {
    const nlohmann::json* source;
    std::shared_ptr<const Scope> scope;
    Modes modes;
    std::vector<size_t> outputs;

    std::string name() const;
    const std::string& target() const { return to_text(source->at("target")); }
    const nlohmann::json& inputs() const { return source->at("inputs"); }

    template <typename Visit>
    void for_each_input(const Visit& visit) const {
      for (const nlohmann::json& input : inputs()) for_each_name(input.at("arg"), visit);
    }
  };

  /// One call of a module: the nodes [begin, end).
  struct ModuleCall {
    std::string key;  // one a call: "L__self__layer", "L__self__layer@1"
    std::string path, type;
    size_t begin = 0, end = 0;
    std::string name = {};  // of its site: "layer", "layer#1"; empty for the model itself
  };

  std::vector<Value> values;
  std::vector<Node> nodes;        // those of graphs that run in place among them
  std::vector<ModuleCall> calls;  // by begin, outer ones first

  /// A new value; Error where the name is taken.
  size_t declare(Scope& scope, const std::string& name, bool is_tensor);
  /// Error where the name is not known (yet): nothing can be used before it is made.
  static size_t find(const Scope& scope, const std::string& name);
  /// The slot of a value that has one.
  int64_t slot(const Scope& scope, const std::string& name) const;

  /// Adds a graph's nodes. Higher-order operators that run their graph once and in place are
  /// replaced by its nodes.
  void add(const nlohmann::json& graph, const std::shared_ptr<Scope>& scope,
           const Modes& modes = {}, int depth = 0);

  /// Finds each value's last use and the calls of modules; after the last add().
  void analyse();

 private:
  void add_in_place(const nlohmann::json& node, size_t graph_at,
                    const std::shared_ptr<Scope>& scope, const Modes& modes, int depth);
};

/// The names of a program's outputs, by the structure they form: "[0]", "[logits]", "[1][0]"; ""
/// where there is only one and no structure.
std::vector<std::string> output_names(const nlohmann::json& graph_module, size_t count);

}  // namespace diffmask
