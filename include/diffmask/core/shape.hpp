#pragma once
/// \file
/// Checks of tensor arguments; each throws ArgumentError naming the tensor, the rule and the value.

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {

/// "(2, 7, 64)"
std::string shape_string(at::IntArrayRef shape);

/// The tensor is defined and has this shape; -1 stands for any size of at least one.
void check_shape(std::string_view name, const at::Tensor& tensor, at::IntArrayRef shape);

/// The tensor has this dtype.
void check_dtype(std::string_view name, const at::Tensor& tensor, at::ScalarType dtype);

/// Numbers that have to be finite are not. A caller that knows why adds it to the value.
class NotFinite : public ArgumentError {
 public:
  NotFinite(std::string_view argument, std::string_view rule, std::string_view value);
  /// The same, with what is said of the method before the argument, and of the cause at the end.
  NotFinite because(std::string_view method, std::string_view cause) const;

 private:
  std::string rule_, value_;
};

/// The tensor is of floating point and has neither NaN nor infinity; NotFinite where it has.
void check_finite(std::string_view name, const at::Tensor& tensor);

}  // namespace diffmask
