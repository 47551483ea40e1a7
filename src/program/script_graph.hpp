#pragma once
/// \file
/// From TorchScript's modules, and graphs as traces give them, to programs; private.

#include <torch/csrc/jit/ir/ir.h>

#include <vector>

#include "program/program_graph.hpp"

namespace torch::jit {
struct Module;
}

namespace diffmask {

/// The kind of node that marks its input as the site of its attribute `name`.
inline c10::Symbol traced_site() { return c10::Symbol::fromQualString("diffmask::site"); }

/// Adds a graph to a program and gives its output's slot. Steps belong to the site that comes next.
Slot lower_graph(ProgramBuilder& builder, torch::jit::Graph& graph,
                 const std::vector<Slot>& inputs);

/// Adds a module's method, inlined call by call, and gives the slot of the output that the options
/// name. `evaluated`: flags for training are taken as off. ArgumentError for a method, an input or
/// an output that is not there or not supported; Error where this LibTorch lacks operators.
Slot lower_module(ProgramBuilder& builder, const torch::jit::Module& module,
                  const ProgramOptions& options, bool evaluated);

}  // namespace diffmask
