#pragma once
/// \file
/// attention(q, k, v) = dropout(softmax(q k^T / sqrt(D) + b)) v, b being -inf where the mask is
/// false.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

namespace diffmask {

/// Dropout of the weights has rate `dropped`, in [0, 1), and draws from the generator.
/// Shapes: q (B, heads, Q, D), k, v (B, heads, T, D); mask (B, T) bool, or undefined if no key is
/// hidden, which is faster -> (B, heads, Q, D).
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& mask, double dropped = 0.0, at::Generator generator = {});

}  // namespace diffmask
