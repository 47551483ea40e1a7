#pragma once
/// \file
/// Python's operators on sizes, as exported programs hold them; private.

#include <string>

#include "program/program_graph.hpp"

namespace diffmask {

/// "_operator.mul", "math.trunc", "torch.sym_max", ... on integers, floats and booleans; empty for
/// a name that is none.
Call python_operator(const std::string& name);

}  // namespace diffmask
