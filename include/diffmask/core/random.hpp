#pragma once
/// \file
/// Randomness comes only from generators that are handed in: the same seed gives the same bits.

#include <ATen/core/Generator.h>
#include <c10/core/Device.h>

#include <cstdint>

namespace diffmask {

/// A generator of its own on `device`, seeded with `seed`.
at::Generator make_generator(uint64_t seed, c10::Device device = c10::kCPU);

/// A seed for an independent stream, from a seed and the stream's number (SplitMix64's mixing step,
/// Steele et al. 2014), so that parts of a run draw independently of one another's number of draws.
uint64_t derive_seed(uint64_t seed, uint64_t stream);

}  // namespace diffmask
