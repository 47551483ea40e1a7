#pragma once
/// \file
/// The inputs of a TorchScript method, of whatever type, from tensors in order; private.
///
///     Tensor               an input "x"
///     Optional[T]          where `given` leaves tensors for it, a T; else None, or its default
///     Tuple[T, S]          inputs "x[0]", "x[1]"
///     List[T]              inputs "x[0]", "x[1]", ...: what `given` leaves
///     Dict[str, T]         inputs "x[key]" for each key that the code reads, in that order
///     int, float, bool     an input "x" of one number
///     List[int], ...       an input "x" of shape (N)

#include <torch/csrc/jit/ir/ir.h>

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "program/program_graph.hpp"
#include "program/script_containers.hpp"

namespace diffmask {

class ScriptInputs {
 public:
  /// `given`: the number of tensors, -1: as few as can be.
  ScriptInputs(ProgramBuilder& builder, ScriptContainers& containers, int64_t given)
      : builder_(builder), containers_(containers), given_(given) {}

  /// The slots of a method's arguments but the first, the module. ArgumentError, naming the input,
  /// for a type that is not listed above.
  std::vector<Slot> operator()(const c10::FunctionSchema& schema, torch::jit::Graph& graph);

  /// Whether a slot holds an input that was given, which is not None.
  bool is_given(Slot slot) const { return there_.contains(slot); }

 private:
  struct Key {
    std::string text;
    bool is_optional;
  };

  int64_t least(const c10::Type& type) const;
  Slot make(const c10::TypePtr& type, const std::string& name);
  Slot one(const c10::TypePtr& type, const std::string& name);

  ProgramBuilder& builder_;
  ScriptContainers& containers_;
  int64_t given_, spare_ = 0;  // tensors for what can be left out
  std::vector<Key> keys_;      // of the argument at hand
  std::unordered_set<Slot> there_;
};

}  // namespace diffmask
