#pragma once
/// \file
/// The masking operator, written once:
///
///     h~ = z h + (1 - z) b
///
/// (De Cao et al. 2020, equation 2). Where z is 1 the state is left bit for bit as it is.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

namespace diffmask {

/// Shape: z and baseline broadcast against the state.
at::Tensor masked(const at::Tensor& state, const at::Tensor& z, const at::Tensor& baseline);

/// The control for a mask: each row's z in a random order over its explained positions, so that as
/// much is kept, but not what was chosen. Shape: z, mask (B, P).
at::Tensor shuffled_mask(const at::Tensor& z, const at::Tensor& mask, at::Generator generator);

}  // namespace diffmask
