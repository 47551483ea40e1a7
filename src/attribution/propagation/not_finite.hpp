#pragma once
/// \file
/// Where numbers that are not finite come from; private.

#include <string>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

/// For errors: the first operators of the original pass that give infinity and NaN or, where that
/// pass is finite, the first on the way back from the target whose gradient is not. Empty where the
/// model has no program, or none is found: then it is what replaces a state that makes it so.
/// Costs an original pass and, at most, one backward.
std::string not_finite_because(const FrozenModel& model, const AttributionOptions& options,
                               const Batch& batch);

}  // namespace diffmask
