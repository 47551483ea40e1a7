#pragma once
/// \file
/// Graphs of TorchScript, as traces give them, in programs; private.

#include <torch/csrc/jit/ir/ir.h>

#include <vector>

#include "program/program_graph.hpp"

namespace diffmask {

/// The kind of node that marks its input as the site of its attribute `name`.
inline c10::Symbol traced_site() { return c10::Symbol::fromQualString("diffmask::site"); }

/// Adds a graph to a program and gives its output's slot. Steps belong to the site that comes next.
Slot lower_graph(ProgramBuilder& builder, torch::jit::Graph& graph,
                 const std::vector<Slot>& inputs);

}  // namespace diffmask
