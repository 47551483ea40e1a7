#pragma once
/// \file
/// Nodes of TorchScript that run as one step, such as loops; private.

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <unordered_map>

#include "program/program_graph.hpp"

namespace diffmask {

/// The slots that hold a graph's values.
using ScriptSlots = std::unordered_map<const torch::jit::Value*, Slot>;

/// The step that runs a node, blocks and all, by LibTorch's interpreter. Its inputs are all values
/// that the node and its blocks read from outside. Which of them it writes into is found out, also
/// through views and in blocks; where it writes none, its outputs may be views of any.
ProgramBuilder::RawStep interpreted(torch::jit::Node& node, const ScriptSlots& slots,
                                    const std::string& name);

}  // namespace diffmask
