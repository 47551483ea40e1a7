#pragma once
/// \file
/// The objective of De Cao et al. 2020 (section 3, equation 5) at one depth:
///
///     min over probe and baseline, max over lambda >= 0:   R + lambda (D - eps)
///
/// R is a penalty on the keep probabilities (penalty.hpp), D the mean of the rows' divergences
/// (divergence.hpp), lambda a multiplier that moves by dual ascent (optim/dual_ascent.hpp).

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

namespace diffmask {

/// R + lambda (mean D - eps), a scalar. Shape: penalty scalar, divergence (B).
inline at::Tensor lagrangian(const at::Tensor& penalty, const at::Tensor& divergence,
                             double multiplier, double epsilon) {
  return penalty + multiplier * (divergence.mean() - epsilon);
}

}  // namespace diffmask
