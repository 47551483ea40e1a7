#pragma once
/// \file
/// The masking operator, written once:
///
///     h~ = z h + (1 - z) b
///
/// (De Cao et al. 2020, equation 2). Where z is 1 the state is left bit for bit as it is.

#include <ATen/core/Tensor.h>

namespace diffmask {

/// Shape: z and baseline broadcast against the state.
at::Tensor masked(const at::Tensor& state, const at::Tensor& z, const at::Tensor& baseline);

}  // namespace diffmask
