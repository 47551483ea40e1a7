#pragma once
/// \file
/// Exported programs' operators that hold graphs and run as one step; private.

#include <memory>
#include <string>
#include <vector>

#include "program/program_graph.hpp"

namespace diffmask {

/// The call of `cond`, `while_loop`, `scan` or `map_impl`; empty for another name. `graphs` give a
/// tuple each; `lists` are the numbers of operands in the operator's lists, which the call takes
/// off the stack one after another. Error where their numbers do not fit the operator.
///
///     cond(condition, operands):         graphs[condition ? 0 : 1](operands)
///     while_loop(carried, others):       while graphs[0](carried, others):
///                                          carried = graphs[1](carried, others)
///     scan(carried, slices, others):     for each i: carried, y_i = graph(carried, slices[i],
///     others);
///                                          gives carried, stack(y)
///     map_impl(slices, others):          stack over i of graph(slices[i], others)
Call block_call(const std::string& name, std::vector<std::shared_ptr<const ProgramGraph>> graphs,
                const std::vector<size_t>& lists);

}  // namespace diffmask
