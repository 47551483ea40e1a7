#pragma once
/// \file
/// Nodes of TorchScript that run as one step, such as loops; private.

#include <c10/core/Device.h>
#include <torch/csrc/jit/ir/ir.h>

#include <functional>
#include <optional>
#include <string>
#include <unordered_map>

#include "program/program_graph.hpp"

namespace diffmask {

/// The slots that hold a graph's values.
using ScriptSlots = std::unordered_map<const torch::jit::Value*, Slot>;

/// What the graph around a node knows.
struct ScriptSurroundings {
  ProgramBuilder& builder;
  std::optional<c10::Device> device;  ///< constants move there, if there is one
  bool evaluated;                     ///< whether flags for training are taken as off
  std::function<Slot(Slot)> current;  ///< the slot that holds a value as it is at this point
};

/// The step that runs a node, blocks and all, by LibTorch's interpreter. Its inputs are all values
/// that the node and its blocks read from outside. Which of them it writes into is found out, also
/// through views and in blocks; where it writes none, its outputs may be views of any. What it
/// forks runs in place. A flag for training that it reads, and that is on, stands in its name.
ProgramBuilder::RawStep interpreted(torch::jit::Node& node, const ScriptSlots& slots,
                                    const std::string& name,
                                    const ScriptSurroundings& surroundings);

/// A constant, on `device` if there is one: a tensor, or the name of a device, which a trace took
/// from the machine that it was made on.
c10::IValue moved(c10::IValue constant, std::optional<c10::Device> device);

}  // namespace diffmask
