#pragma once
/// \file
/// Checks of tensor arguments; each throws ArgumentError naming the tensor, the rule and the value.

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

namespace diffmask {

/// "(2, 7, 64)"
std::string shape_string(at::IntArrayRef shape);

/// The tensor is defined and has this shape; -1 stands for any size of at least one.
void check_shape(std::string_view name, const at::Tensor& tensor, at::IntArrayRef shape);

/// The tensor has this dtype.
void check_dtype(std::string_view name, const at::Tensor& tensor, at::ScalarType dtype);

/// The tensor is of floating point and has neither NaN nor infinity.
void check_finite(std::string_view name, const at::Tensor& tensor);

}  // namespace diffmask
