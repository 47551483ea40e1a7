#pragma once
/// \file
/// The scores of a whole data set, whose examples differ in length.
///
///     for (const at::Tensor& scores : data_scores(method, data)) {   // (T, D), example by example
///       const at::Tensor survived = scores.sum(1);                   // depths, per position
///     }

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/data/dataset.hpp"

namespace diffmask {

/// Each example's scores, in the order of the data set; explained in batches of like lengths.
/// Shape: (T, D) each, T the example's length, D the number of depths.
std::vector<at::Tensor> data_scores(const Attributor& method, const Dataset& data,
                                    int64_t batch_size = 64);

}  // namespace diffmask
