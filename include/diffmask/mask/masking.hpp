#pragma once
/// \file
/// The masking operator, written once:
///
///     h~ = z h + (1 - z) b
///
/// (De Cao et al. 2020, equation 2). Where z is 1 the state is left bit for bit as it is.

#include <ATen/TensorOperators.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/argsort.h>

#include <cstdint>
#include <utility>

#include "diffmask/core/random.hpp"

namespace diffmask {

/// Shape: z and baseline broadcast against the state.
inline at::Tensor masked(const at::Tensor& state, const at::Tensor& z, const at::Tensor& baseline) {
  return z * state + (1 - z) * baseline;
}

/// The control for a mask: each row's z in a random order over its explained positions, so that as
/// much is kept, but not what was chosen. Shape: z, mask (B, P).
inline at::Tensor shuffled_mask(const at::Tensor& z, const at::Tensor& mask,
                                at::Generator generator) {
  // Sorted by random keys, explained positions first: place i of a row's order gets the i-th of its
  // z.
  const at::Tensor keys =
      drawn_uniform(z.sizes(), std::move(generator), z.options().dtype(at::kFloat))
          .masked_fill(mask.logical_not(), 2.0);
  const at::Tensor order = at::argsort(keys, int64_t{1}, false);
  const at::Tensor places = at::argsort(mask.logical_not().to(at::kFloat), int64_t{1}, false);
  return z.scatter(1, order, z.gather(1, places));
}

}  // namespace diffmask
