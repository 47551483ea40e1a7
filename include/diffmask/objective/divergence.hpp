#pragma once
/// \file
/// Divergences D(original || masked), in nats, one per row. Which one fits which output:
/// docs/outputs.md, and output_kind.hpp, which has them as a table.
///
/// A divergence maps two outputs of the model, original y and masked y', to a tensor (B) of numbers
/// >= 0 that is 0 where they agree. The constraint is on its mean over the batch. Any function of
/// this type will do; these are the usual ones:
///
///     method.fit(data, {.epsilon = 0.1, .divergence = divergence::bernoulli});

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/sigmoid.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/objective/outputs.hpp"

namespace diffmask {

using Divergence = std::function<at::Tensor(const at::Tensor& original, const at::Tensor& masked)>;

namespace divergence {

/// Both outputs have this many dimensions and one shape; else ArgumentError.
inline void check_pair(const at::Tensor& original, const at::Tensor& masked, int64_t dim) {
  require(original.dim() == dim, "original", fmt::format("of {} dimensions", dim),
          shape_string(original.sizes()));
  check_shape("masked", masked, original.sizes());
}

/// sum_c p_c (log p_c - log q_c) over a dimension. A class that p does not allow at all counts
/// nothing, where 0 * (-inf) would make the row, or its gradient, NaN.
inline at::Tensor kl(const at::Tensor& log_p, const at::Tensor& log_q, int64_t dim) {
  const at::Tensor impossible = log_p.eq(-INFINITY);
  return (log_p.exp() * (log_p - log_q).masked_fill(impossible, 0)).sum(dim);
}

/// Both outputs are the logits of two classes or more, (B, C): over one class every KL is 0. Else
/// ArgumentError names what to take.
inline void check_classes(const at::Tensor& original, const at::Tensor& masked) {
  constexpr const char* kOthers =
      "(for one number per example: bernoulli where it is a logit, squared_error where it is a "
      "quantity; for labels that do not exclude each other: multi_label; for (B, T, C): tokens, "
      "next_token or span)";
  require(original.dim() == 2, "original", fmt::format("of 2 dimensions, (B, classes) {}", kOthers),
          shape_string(original.sizes()));
  require(original.size(1) >= 2, "original",
          fmt::format("of two classes or more, (B, classes) {}", kOthers),
          shape_string(original.sizes()));
  check_shape("masked", masked, original.sizes());
}

/// KL(p || q) = sum_c p_c (log p_c - log q_c), p = softmax(y), q = softmax(y').
/// Shape: outputs (B, C), C >= 2 -> (B). Classes at -inf in both outputs are left out.
inline at::Tensor categorical(const at::Tensor& original, const at::Tensor& masked) {
  check_classes(original, masked);
  return kl(at::log_softmax(original, 1), at::log_softmax(masked, 1), 1);
}

/// KL(q || p), the reverse, which punishes mass where the original has none.
inline at::Tensor reverse_categorical(const at::Tensor& original, const at::Tensor& masked) {
  return categorical(masked, original);
}

/// Jensen-Shannon: (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2; at most log 2.
inline at::Tensor jensen_shannon(const at::Tensor& original, const at::Tensor& masked) {
  check_classes(original, masked);
  const at::Tensor log_p = at::log_softmax(original, 1), log_q = at::log_softmax(masked, 1);
  // The floor gives classes at -inf a finite log, whose gradient is 0; it is far under any real m.
  const at::Tensor log_m = ((log_p.exp() + log_q.exp()) / 2).clamp_min(1e-30).log();
  return (kl(log_p, log_m, 1) + kl(log_q, log_m, 1)) / 2;
}

/// p (log p - log q) + (1 - p) (log(1 - p) - log(1 - q)), p = sigmoid(y), q = sigmoid(y'), of each
/// number. Shape: any, the same.
inline at::Tensor bernoulli_kl(const at::Tensor& y, const at::Tensor& y_masked) {
  const at::Tensor p = at::sigmoid(y);
  return p * (at::log_sigmoid(y) - at::log_sigmoid(y_masked)) +
         (1 - p) * (at::log_sigmoid(-y) - at::log_sigmoid(-y_masked));
}

/// KL between Bernoulli distributions with one logit each. Shape: outputs (B) or (B, 1) -> (B).
inline at::Tensor bernoulli(const at::Tensor& original, const at::Tensor& masked) {
  check_shape("masked", masked, original.sizes());
  require(is_single(original), "original", "of shape (B) or (B, 1)",
          shape_string(original.sizes()));
  return bernoulli_kl(original.flatten(), masked.flatten());
}

/// The sum over labels, each of which is true or not whatever the others are, of their Bernoulli
/// KL. Shape: outputs (B, L), a logit per label -> (B).
inline at::Tensor multi_label(const at::Tensor& original, const at::Tensor& masked) {
  check_pair(original, masked, 2);
  return bernoulli_kl(original, masked).sum(1);
}

/// `categorical`, where a single logit stands for two classes. Shape: (B), (B, 1) or (B, C).
inline at::Tensor classes(const at::Tensor& original, const at::Tensor& masked) {
  return categorical(as_classes(original), as_classes(masked));
}

/// The mean over tokens of each one's KL, for taggers. Shape: outputs (B, T, C), C >= 2 -> (B).
/// All T tokens count, padding too: for texts of several lengths, a divergence of one's own.
inline at::Tensor tokens(const at::Tensor& original, const at::Tensor& masked) {
  check_pair(original, masked, 3);
  check_classes(original.flatten(0, 1), masked.flatten(0, 1));
  return kl(at::log_softmax(original, 2), at::log_softmax(masked, 2), 2).mean(1);
}

/// KL of the last token's classes: of the next token, for language models whose texts end at T
/// (padding stands before them). Shape: outputs (B, T, C), C >= 2 -> (B).
inline at::Tensor next_token(const at::Tensor& original, const at::Tensor& masked) {
  check_pair(original, masked, 3);
  return categorical(original.select(1, -1), masked.select(1, -1));
}

/// KL(start) + KL(end) for span heads. Shape: outputs (B, T, 2), padding at -inf -> (B).
inline at::Tensor span(const at::Tensor& original, const at::Tensor& masked) {
  check_pair(original, masked, 3);
  require(original.size(2) == 2, "original", "of shape (B, T, 2): start and end",
          shape_string(original.sizes()));
  return kl(at::log_softmax(original, 1), at::log_softmax(masked, 1), 1).sum(1);
}

/// -log q of the class that the original predicts, in nats: what others minimise in place of a
/// divergence. It is not 0 where the outputs agree. Shape: outputs (B, C); (B) or (B, 1) for one
/// logit, whose classes are its signs.
inline at::Tensor cross_entropy(const at::Tensor& original, const at::Tensor& masked) {
  if (is_single(original)) {
    check_shape("masked", masked, original.sizes());
    const at::Tensor sign = original.flatten().gt(0).to(masked.scalar_type()) * 2 - 1;
    return -at::log_sigmoid(sign * masked.flatten());
  }
  check_pair(original, masked, 2);
  return -at::log_softmax(masked, 1).gather(1, original.argmax(1, /*keepdim=*/true)).squeeze(1);
}

/// Mean squared difference, for regression; not in nats. Shape: outputs (B, ...) -> (B).
inline at::Tensor squared_error(const at::Tensor& original, const at::Tensor& masked) {
  check_shape("masked", masked, original.sizes());
  return (original - masked).square().reshape({original.size(0), -1}).mean(1);
}

/// All of these by their names.
const std::map<std::string, Divergence>& ready();

}  // namespace divergence
}  // namespace diffmask
