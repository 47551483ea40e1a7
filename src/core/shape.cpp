#include "diffmask/core/shape.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>

#include "diffmask/core/error.hpp"

namespace diffmask {

std::string shape_string(at::IntArrayRef shape) {
  return fmt::format("({})", fmt::join(shape.begin(), shape.end(), ", "));
}

void check_shape(std::string_view name, const at::Tensor& tensor, at::IntArrayRef shape) {
  const std::string rule = "of shape " + shape_string(shape);
  if (!tensor.defined()) throw ArgumentError(name, rule, "an undefined tensor");
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  for (size_t d = 0; fits && d < shape.size(); ++d) {
    const int64_t size = tensor.size(static_cast<int64_t>(d));
    fits = shape[d] == -1 ? size > 0 : size == shape[d];
  }
  if (!fits) throw ArgumentError(name, rule, shape_string(tensor.sizes()));
}

void check_dtype(std::string_view name, const at::Tensor& tensor, at::ScalarType dtype) {
  require(tensor.scalar_type() == dtype, name, fmt::format("of dtype {}", c10::toString(dtype)),
          c10::toString(tensor.scalar_type()));
}

NotFinite::NotFinite(std::string_view argument, std::string_view rule, std::string_view value)
    : ArgumentError(argument, rule, value), rule_(rule), value_(value) {}

NotFinite NotFinite::because(std::string_view method, std::string_view cause) const {
  return {fmt::format("{}: {}", method, argument()), rule_,
          cause.empty() ? value_ : fmt::format("{}: {}", value_, cause)};
}

void check_finite(std::string_view name, const at::Tensor& tensor) {
  require(tensor.defined() && tensor.is_floating_point(), name, "a tensor of floating point",
          tensor.defined() ? c10::toString(tensor.scalar_type()) : "an undefined tensor");
  // A sum is finite when all terms are (barring overflow), and costs one pass: look closer only
  // then.
  at::NoGradGuard no_grad;
  if (at::isfinite(tensor.sum()).item<bool>()) return;
  const int64_t bad = at::isfinite(tensor).logical_not().sum().item<int64_t>();
  if (bad > 0) {
    throw NotFinite(name, "finite", fmt::format("{} NaN or infinite of {}", bad, tensor.numel()));
  }
}

}  // namespace diffmask
