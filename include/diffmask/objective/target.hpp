#pragma once
/// \file
/// Targets: which number of an output is explained.
///
/// A target maps an output y, and the output y0 of the original pass, to one number a row, shape
/// (B). Its gradient is taken with respect to y. Any function of this type will do.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>

namespace diffmask {

using Target = std::function<at::Tensor(const at::Tensor& output, const at::Tensor& original)>;

namespace target {

/// The logit of the class that the original pass predicts: y[argmax y0]. Shape: outputs (B, C).
at::Tensor predicted(const at::Tensor& output, const at::Tensor& original);

/// The logit of one class for all rows. The function throws ArgumentError where the output has not
/// that many classes. Shape: outputs (B, C).
Target class_index(int64_t index);

/// The only number of an output. Shape: outputs (B) or (B, 1).
at::Tensor scalar(const at::Tensor& output, const at::Tensor& original);

/// The same target of log-probabilities, log softmax(y), in place of logits.
Target log_probability(Target of);

/// A target applied and checked: throws ArgumentError unless it gives one finite number a row.
at::Tensor value(const Target& target, const at::Tensor& output, const at::Tensor& original);

}  // namespace target
}  // namespace diffmask
