#pragma once
/// \file
/// The library's gates by name, for files and configurations.

#include <map>
#include <memory>
#include <string>

#include "diffmask/gate/bernoulli.hpp"
#include "diffmask/gate/hard_concrete.hpp"

namespace diffmask {

/// "hard_concrete", "bernoulli".
const std::map<std::string, GateFactory>& gates();

}  // namespace diffmask
