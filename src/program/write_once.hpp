#pragma once
/// \file
/// From steps that write in place to steps that give new values; private.

#include <vector>

#include "program/program_graph.hpp"

namespace diffmask {

/// Adds the steps to the graph such that every slot is written once, and gives the slot that holds
/// what `output` held. Slots that may share storage form a set. A step that writes into a set
/// becomes
///   - its functional form, where nobody reads another member of the set afterwards, or
///   - a step that copies what the set's views are taken of, takes these views again, writes into
///     the copy, and gives new values of all members that are read afterwards.
/// Later readers get the new values.
Slot write_once(std::vector<ProgramBuilder::RawStep> steps, ProgramGraph& graph, Slot output);

}  // namespace diffmask
