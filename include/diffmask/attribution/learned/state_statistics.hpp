#pragma once
/// \file
/// Mean and standard deviation of a site's states, a number per channel, over the explained
/// positions of a data set: padding has states, too, and would move both.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

/// Shape: (F) each, or (C) for an image.
struct StateStatistics {
  at::Tensor mean;
  at::Tensor deviation;  ///< of the population, >= 0
};

/// By site, for all of the options' sites. ArgumentError where the options do not fit the model or
/// a state has no positions as they lay them out.
std::map<std::string, StateStatistics> state_statistics(const FrozenModel& model,
                                                        const AttributionOptions& options,
                                                        const Dataset& data,
                                                        int64_t batch_size = 64);

/// Puts the mean state at each of the options' sites.
Fill mean_fill(const FrozenModel& model, const AttributionOptions& options, const Dataset& data);

}  // namespace diffmask
