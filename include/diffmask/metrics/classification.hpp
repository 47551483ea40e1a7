#pragma once
/// \file
/// How well classes are predicted; higher is better.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace diffmask {

/// Share of examples whose predicted class is the true one. Shape: predicted, labels (N) int64.
double accuracy(const at::Tensor& predicted, const at::Tensor& labels);

/// Mean over classes of F1 = 2 TP / (2 TP + FP + FN); a class that neither appears nor is predicted
/// counts 0. Shape: predicted, labels (N) int64 in 0..classes - 1.
double macro_f1(const at::Tensor& predicted, const at::Tensor& labels, int64_t classes);

}  // namespace diffmask
