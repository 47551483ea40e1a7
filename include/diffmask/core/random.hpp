#pragma once
/// \file
/// Randomness comes only from generators that are handed in: the same seed gives the same bits.
/// What draws (a net's first weights and its dropout, a maker of data) takes a generator. A run
/// that has several streams (training, a task's model) takes a seed and derives a generator for
/// each, so that how much one stream draws does not change another.
///
///     const at::Generator weights = make_generator(derive_seed(seed, 0));
///     const at::Generator order = make_generator(derive_seed(seed, 1));

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>

namespace diffmask {

/// A generator of its own on `device`, seeded with `seed`.
at::Generator make_generator(uint64_t seed, c10::Device device = c10::kCPU);

/// Draws from U[0, 1) and N(0, 1) as a tensor of these options. They are made where the generator
/// lies, and moved to where the options say: any generator serves for any device.
at::Tensor drawn_uniform(at::IntArrayRef sizes, at::Generator generator,
                         const at::TensorOptions& options);
at::Tensor drawn_normal(at::IntArrayRef sizes, at::Generator generator,
                        const at::TensorOptions& options);

/// A seed for an independent stream, from a seed and the stream's number (SplitMix64's mixing step,
/// Steele et al. 2014), so that parts of a run draw independently of one another's number of draws.
uint64_t derive_seed(uint64_t seed, uint64_t stream);

/// Dropout (Srivastava et al. 2014): each element of x is 0 with probability `rate` in [0, 1), else
/// x / (1 - rate), which keeps its mean. A rate of 0 returns x itself and draws nothing. Draws are
/// made on the generator's device, and moved where x is on another. (Not named `dropout`: a call
/// without a generator would find at::dropout(x, rate, train).)
at::Tensor dropped_out(const at::Tensor& x, double rate, at::Generator generator);

}  // namespace diffmask
