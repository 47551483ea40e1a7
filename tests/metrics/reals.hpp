#pragma once
#include <ATen/ops/tensor.h>

#include <vector>

namespace diffmask {

inline at::Tensor reals(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble);
}

}  // namespace diffmask
