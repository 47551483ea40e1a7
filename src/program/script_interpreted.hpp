#pragma once
/// \file
/// Nodes of TorchScript that run as one step, such as loops; private.

#include <c10/core/Device.h>
#include <torch/csrc/jit/ir/ir.h>

#include <optional>
#include <string>
#include <unordered_map>

#include "program/program_graph.hpp"

namespace diffmask {

/// The slots that hold a graph's values.
using ScriptSlots = std::unordered_map<const torch::jit::Value*, Slot>;

/// The step that runs a node, blocks and all, by LibTorch's interpreter. Its inputs are all values
/// that the node and its blocks read from outside. Which of them it writes into is found out, also
/// through views and in blocks; where it writes none, its outputs may be views of any. Constants
/// move to `device`, if there is one.
ProgramBuilder::RawStep interpreted(torch::jit::Node& node, const ScriptSlots& slots,
                                    const std::string& name, std::optional<c10::Device> device);

/// A constant, on `device` if there is one: a tensor, or the name of a device, which a trace took
/// from the machine that it was made on.
c10::IValue moved(c10::IValue constant, std::optional<c10::Device> device);

}  // namespace diffmask
