#include "diffmask/gate/ready.hpp"

#include <memory>

#include "diffmask/gate/bernoulli.hpp"
#include "diffmask/gate/hard_concrete.hpp"

namespace diffmask {

const std::map<std::string, GateFactory>& gates() {
  static const std::map<std::string, GateFactory> all = {
      {"hard_concrete",
       [](const Part& part) {
         return std::make_shared<HardConcrete>(options_of<HardConcreteOptions>(part));
       }},
      {"bernoulli", [](const Part&) { return std::make_shared<Bernoulli>(); }}};
  return all;
}

}  // namespace diffmask
