#pragma once
/// \file
/// Training several explainers at once, each in a thread of its own: recordings are values and the
/// model is only read. Small models gain little from several threads for each operator, and so two
/// explainers on two cores take the time of one:
///
///     at::set_num_threads(1);   // each thread's operators take so many
///     std::vector<DiffMask> methods = {DiffMask(model, {.masking = Masking::input}),
///                                      DiffMask(model, {.masking = Masking::hidden})};
///     fit_together(methods, {{.epsilon = 0.02}, {.epsilon = 0.05}}, training, validation);

#include <vector>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/train/summary.hpp"
#include "diffmask/train/trainer.hpp"

namespace diffmask {

/// Fits methods[i] by options[i], to the bits that DiffMask::fit gives with as many threads for its
/// operators. Callbacks are called in their explainer's thread, the first one's in the caller's. An
/// error is thrown once all have ended. ArgumentError unless there are options for each method.
std::vector<Summary> fit_together(std::vector<DiffMask>& methods,
                                  const std::vector<TrainerOptions>& options,
                                  const Dataset& training, const Dataset& validation);

}  // namespace diffmask
