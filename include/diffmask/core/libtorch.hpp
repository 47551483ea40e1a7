#pragma once
/// \file
/// Which LibTorch this is compiled against: 1.13.1 and later ones are supported, and what differs
/// between them is asked here alone.
///
///     #if DIFFMASK_TORCH_AT_LEAST(2, 0)
///       return at::scaled_dot_product_attention(q, k, v);
///     #endif
///     constexpr bool kIsFused = DIFFMASK_TORCH_AT_LEAST(2, 0);

#include <torch/version.h>

/// Whether LibTorch's version is at least major.minor: in `#if` and in code.
#define DIFFMASK_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) ||           \
   (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))
