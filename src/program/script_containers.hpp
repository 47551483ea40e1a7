#pragma once
/// \file
/// TorchScript's lists, tuples and dictionaries whose elements are known while a graph is lowered,
/// also where they are filled one by one; private.
///
///     scores = {}
///     scores["logits"] = self.head(h)        a later reader of `scores` reads {"logits": ...}
///
/// A container is known by the slot that it was first given. What changes it in a way that cannot
/// be followed, such as a loop, makes its elements unknown; the slot then holds what steps make it.

#include <torch/csrc/jit/ir/ir.h>

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "program/program_graph.hpp"

namespace diffmask {

class ScriptContainers {
 public:
  explicit ScriptContainers(ProgramBuilder& builder) : builder_(builder) {}

  /// A list or tuple of these elements, or a dictionary of key, value, key, value, ...
  Slot construct(const c10::TypePtr& type, const std::vector<Slot>& elements);

  /// Null where they are not known.
  const std::vector<Slot>* elements(Slot container) const;

  /// The slot that holds the container as it is at this point; other slots as they are.
  Slot current(Slot slot);

  /// The result of an operator that reads or fills a known container at a known place: a slot, or
  /// none where it gives nothing. Empty for all other operators.
  std::optional<std::vector<Slot>> operate(const torch::jit::Node& node,
                                           const std::vector<Slot>& inputs);

  /// A step writes into what this slot, given by `current`, holds.
  void forget(Slot current);

 private:
  struct Container {
    c10::TypePtr type;
    std::vector<Slot> elements;
    Slot slot;  // that held it last
    bool is_known = true, is_changed = false;
  };

  bool is_changed(const Container& container) const;
  Container* known(Slot slot);
  /// The place of an element, the number of elements where there is none; -1 where unknown.
  int64_t place(const Container& container, Slot key) const;

  ProgramBuilder& builder_;
  std::unordered_map<Slot, Container> containers_;
};

}  // namespace diffmask
