#pragma once
/// \file
/// The library's probes by name, for files and configurations.

#include <functional>
#include <map>
#include <string>

#include "diffmask/probe/free_logits.hpp"
#include "diffmask/probe/mlp.hpp"

namespace diffmask {

/// A probe factory from what a file says of it.
using ProbeMaker = std::function<ProbeFactory(const Part& part)>;

/// "mlp", "free_logits".
const std::map<std::string, ProbeMaker>& probes();

}  // namespace diffmask
