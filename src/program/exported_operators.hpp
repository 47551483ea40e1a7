#pragma once
/// \file
/// From an exported program's nodes to steps; private.

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "program/exported_arguments.hpp"
#include "program/exported_graph.hpp"
#include "program/program_graph.hpp"

namespace diffmask {

class ExportedOperators {
 public:
  /// The program of a graph that is an argument of a node.
  using Block = std::function<std::unique_ptr<ProgramGraph>(const nlohmann::json& graph)>;

  /// What this LibTorch lacks is added to `missing`. All arguments have to outlive this.
  ExportedOperators(ProgramBuilder& builder, ExportedGraph& graph, ExportedArguments& arguments,
                    std::set<std::string>& missing, Block block)
      : builder_(builder),
        graph_(graph),
        arguments_(arguments),
        missing_(missing),
        block_(std::move(block)) {}

  /// Adds the steps of a node, within the module at `path`, and gives its outputs their slots.
  void operate(const ExportedGraph::Node& node, const std::string& path);

 private:
  using Node = ExportedGraph::Node;

  void size_of(const Node& node, const std::string& step, const std::string& what);
  void call_operator(const Node& node, const std::string& step, const std::string& name,
                     const std::string& overload);
  /// Of those that hold graphs and run as one step.
  void higher_order(const Node& node, const std::string& step, const std::string& what);

  /// Hands a step's results to the names that the node gives them; lists are taken apart. Without
  /// results, the operator being missing, the names get a stand-in, to find what else is missing.
  void give(const Node& node, const std::vector<Slot>& results);

  ProgramBuilder& builder_;
  ExportedGraph& graph_;
  ExportedArguments& arguments_;
  std::set<std::string>& missing_;
  Block block_;
};

}  // namespace diffmask
