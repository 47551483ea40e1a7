#pragma once
/// \file
/// The target's gradient with respect to states that are put in place of the recorded ones.

#include <ATen/ATen.h>

#include <vector>

#include "diffmask/attribution/site_method.hpp"

namespace diffmask {

/// d target(f(states)) / d states, each row's own. Where the output does not depend on a state:
/// ArgumentError naming its site, or zeros if the options say so. Shape: one state a site, of the
/// recording's rows.
std::vector<at::Tensor> target_gradients(const SiteMethod::Original& original,
                                         const Recording& recording,
                                         const std::vector<Replacement>& states);

}  // namespace diffmask
