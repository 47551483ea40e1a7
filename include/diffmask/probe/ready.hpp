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
inline const std::map<std::string, ProbeMaker>& probes() {
  static const std::map<std::string, ProbeMaker> all = {
      {"mlp", [](const Part& part) { return mlp_probe(options_of<MlpProbeOptions>(part)); }},
      {"free_logits",
       [](const Part& part) { return free_logits(options_of<FreeLogitsOptions>(part)); }}};
  return all;
}

}  // namespace diffmask
