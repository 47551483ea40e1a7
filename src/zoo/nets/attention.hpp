#pragma once
/// \file
/// attention(q, k, v) = dropout(softmax(q k^T / sqrt(D) + b)) v, b being -inf where the mask is
/// false.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

namespace diffmask {

/// Shapes: q (B, heads, Q, D), k, v (B, heads, T, D); mask (B, T) bool, or undefined where no key
/// is hidden, which is faster -> (B, heads, Q, D). A share of the weights, in [0, 1), is dropped,
/// as the generator says.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& mask, double dropped = 0.0, at::Generator generator = {});

}  // namespace diffmask
