#pragma once
/// \file
/// What kind of output a model gives, as far as its shape tells.

#include <ATen/core/Tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

/// Whether there is one number for each example: (B) or (B, 1).
inline bool is_single(const at::Tensor& output) {
  return output.dim() == 1 || (output.dim() == 2 && output.size(1) == 1);
}

/// The logits of classes; a single logit y becomes those of two, (0, y).
/// Shape: (B), (B, 1) or (B, C) -> (B, C).
inline at::Tensor as_classes(const at::Tensor& output) {
  if (output.dim() == 2 && output.size(1) > 1) return output;
  require(is_single(output), "output",
          "of shape (B), (B, 1) or (B, classes): any other needs functions of its own",
          shape_string(output.sizes()));
  const at::Tensor y = output.flatten();
  return at::stack({at::zeros_like(y), y}, 1);
}

/// The predicted class of each example; of a single logit, whether it is above 0. Shape: (B) int64.
inline at::Tensor predicted_class(const at::Tensor& output) { return as_classes(output).argmax(1); }

}  // namespace diffmask
