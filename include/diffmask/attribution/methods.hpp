#pragma once
/// \file
/// All methods that need no training of their own, by name: the one list that programs offer.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"

namespace diffmask {

/// What methods are told beside AttributionOptions.
struct MethodSettings {
  int64_t steps = 50;           ///< of integrated gradients, which may refine to 8 times as many
  int64_t beam = 5;             ///< of beam search
  int64_t max_passes = 100000;  ///< of exact search, rows an example and site; 0: no limit
  int64_t random_passes = 250;  ///< of random search likewise, >= 1
  uint64_t seed = 0;            ///< of methods that draw
};

struct Method {
  std::string name;
  std::function<std::unique_ptr<Attributor>(std::shared_ptr<const FrozenModel>, AttributionOptions,
                                            const MethodSettings&)>
      make;
  bool one_walk = false;  ///< whether several sites cost what one does
};

/// In the order of reports: controls first. LRP is the one that spreads the rest
/// (LrpOptions::Rest).
const std::vector<Method>& methods();
std::vector<std::string> method_names();

/// The method of this name; ArgumentError, with the nearest names, where there is none.
const Method& method(const std::string& name);

}  // namespace diffmask
