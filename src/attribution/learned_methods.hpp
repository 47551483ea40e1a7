#pragma once
/// \file
/// The methods of the list that learn something, from training data or from examples; private.

#include <vector>

#include "diffmask/attribution/methods.hpp"

namespace diffmask {

std::vector<Method> learned_methods();

}  // namespace diffmask
