#include "diffmask/objective/divergence.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdint>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask::divergence {
namespace {

void check_pair(const at::Tensor& original, const at::Tensor& masked, int64_t dim) {
  require(original.dim() == dim, "original", fmt::format("of {} dimensions", dim),
          shape_string(original.sizes()));
  check_shape("masked", masked, original.sizes());
}

// sum_c p (log p - log q) over the dimension; a class that p does not allow at all counts nothing,
// where 0 * (-inf) would make the row, or its gradient, NaN.
at::Tensor kl(const at::Tensor& log_p, const at::Tensor& log_q, int64_t dim) {
  const at::Tensor impossible = log_p.eq(-INFINITY);
  return (log_p.exp() * (log_p - log_q).masked_fill(impossible, 0)).sum(dim);
}

}  // namespace

at::Tensor categorical(const at::Tensor& original, const at::Tensor& masked) {
  check_pair(original, masked, 2);
  return kl(at::log_softmax(original, 1), at::log_softmax(masked, 1), 1);
}

at::Tensor reverse_categorical(const at::Tensor& original, const at::Tensor& masked) {
  return categorical(masked, original);
}

at::Tensor jensen_shannon(const at::Tensor& original, const at::Tensor& masked) {
  check_pair(original, masked, 2);
  const at::Tensor log_p = at::log_softmax(original, 1), log_q = at::log_softmax(masked, 1);
  // The floor gives classes at -inf a finite log, whose gradient is 0; it is far under any real m.
  const at::Tensor log_m = ((log_p.exp() + log_q.exp()) / 2).clamp_min(1e-30).log();
  return (kl(log_p, log_m, 1) + kl(log_q, log_m, 1)) / 2;
}

at::Tensor bernoulli(const at::Tensor& original, const at::Tensor& masked) {
  check_shape("masked", masked, original.sizes());
  require(original.dim() == 1 || (original.dim() == 2 && original.size(1) == 1), "original",
          "of shape (B) or (B, 1)", shape_string(original.sizes()));
  const at::Tensor y = original.flatten(), y_masked = masked.flatten();
  const at::Tensor p = at::sigmoid(y);
  return p * (at::log_sigmoid(y) - at::log_sigmoid(y_masked)) +
         (1 - p) * (at::log_sigmoid(-y) - at::log_sigmoid(-y_masked));
}

at::Tensor span(const at::Tensor& original, const at::Tensor& masked) {
  check_pair(original, masked, 3);
  require(original.size(2) == 2, "original", "of shape (B, T, 2): start and end",
          shape_string(original.sizes()));
  return kl(at::log_softmax(original, 1), at::log_softmax(masked, 1), 1).sum(1);
}

at::Tensor cross_entropy(const at::Tensor& original, const at::Tensor& masked) {
  if (original.dim() == 1 || (original.dim() == 2 && original.size(1) == 1)) {
    check_shape("masked", masked, original.sizes());
    const at::Tensor sign = original.flatten().gt(0).to(masked.scalar_type()) * 2 - 1;
    return -at::log_sigmoid(sign * masked.flatten());
  }
  check_pair(original, masked, 2);
  return -at::log_softmax(masked, 1).gather(1, original.argmax(1, /*keepdim=*/true)).squeeze(1);
}

at::Tensor squared_error(const at::Tensor& original, const at::Tensor& masked) {
  check_shape("masked", masked, original.sizes());
  return (original - masked).square().reshape({original.size(0), -1}).mean(1);
}

}  // namespace diffmask::divergence
