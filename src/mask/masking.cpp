#include "diffmask/mask/masking.hpp"

#include <ATen/ATen.h>

#include <cstdint>

namespace diffmask {

at::Tensor masked(const at::Tensor& state, const at::Tensor& z, const at::Tensor& baseline) {
  return z * state + (1 - z) * baseline;
}

at::Tensor shuffled_mask(const at::Tensor& z, const at::Tensor& mask, at::Generator generator) {
  // Sorted by random keys, explained positions first: place i of a row's order gets the i-th of its
  // z.
  const at::Tensor keys = at::rand(z.sizes(), generator, z.options().dtype(at::kFloat))
                              .masked_fill(mask.logical_not(), 2.0);
  const at::Tensor order = at::argsort(keys, int64_t{1}, false);
  const at::Tensor places = at::argsort(mask.logical_not().to(at::kFloat), int64_t{1}, false);
  return z.scatter(1, order, z.gather(1, places));
}

}  // namespace diffmask
