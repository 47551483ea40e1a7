#include "diffmask/mask/masking.hpp"

namespace diffmask {

at::Tensor masked(const at::Tensor& state, const at::Tensor& z, const at::Tensor& baseline) {
  return z * state + (1 - z) * baseline;
}

}  // namespace diffmask
