#include "diffmask/probe/ready.hpp"

#include "diffmask/probe/free_logits.hpp"
#include "diffmask/probe/mlp.hpp"

namespace diffmask {

const std::map<std::string, ProbeMaker>& probes() {
  static const std::map<std::string, ProbeMaker> all = {
      {"mlp", [](const Part& part) { return mlp_probe(options_of<MlpProbeOptions>(part)); }},
      {"free_logits",
       [](const Part& part) { return free_logits(options_of<FreeLogitsOptions>(part)); }}};
  return all;
}

}  // namespace diffmask
