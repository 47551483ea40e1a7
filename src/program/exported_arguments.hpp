#pragma once
/// \file
/// Arguments of an exported program's operators: what the file gives, as the type that the
/// operator's schema asks for; private.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "program/exported_graph.hpp"
#include "program/program_graph.hpp"

namespace diffmask {

class ExportedArguments {
 public:
  /// Device arguments become `device`, where the weights are, whatever they were on export.
  ExportedArguments(ProgramBuilder& builder, const ExportedGraph& graph, c10::Device device)
      : builder_(builder), graph_(graph), device_(device) {}

  /// The slot of an argument such as {"as_int": 3} or {"as_tensor": {"name": "x"}}. A number where
  /// a tensor is asked for becomes a wrapped one (it does not decide dtypes); a single value where
  /// a list of `repeat` is asked for is repeated.
  Slot operator()(const nlohmann::json& argument, c10::TypePtr type, int32_t repeat,
                  const ExportedGraph::Scope& scope);

 private:
  Slot list(const std::string& kind, const nlohmann::json& value, const c10::ListType& type,
            int32_t repeat, const ExportedGraph::Scope& scope);
  c10::IValue literal(const std::string& kind, const nlohmann::json& value,
                      const c10::Type& type) const;

  ProgramBuilder& builder_;
  const ExportedGraph& graph_;
  c10::Device device_;
};

}  // namespace diffmask
