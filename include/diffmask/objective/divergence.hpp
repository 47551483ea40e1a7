#pragma once
/// \file
/// Divergences D(original || masked), in nats, one a row.
///
/// A divergence maps two outputs of the model, original y and masked y', to a tensor (B) of numbers
/// >= 0 that is 0 where they agree. Any function of this type will do; these are the usual ones.
/// The constraint is on the mean over the batch.

#include <ATen/core/Tensor.h>

#include <functional>

namespace diffmask {

using Divergence = std::function<at::Tensor(const at::Tensor& original, const at::Tensor& masked)>;

namespace divergence {

/// KL(p || q) = sum_c p_c (log p_c - log q_c), p = softmax(y), q = softmax(y').
/// Shape: outputs (B, C) -> (B). Classes at -inf in both outputs are left out.
at::Tensor categorical(const at::Tensor& original, const at::Tensor& masked);

/// KL(q || p), the reverse, which punishes mass where the original has none.
at::Tensor reverse_categorical(const at::Tensor& original, const at::Tensor& masked);

/// Jensen-Shannon: (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2; at most log 2.
at::Tensor jensen_shannon(const at::Tensor& original, const at::Tensor& masked);

/// KL between Bernoulli distributions with one logit each. Shape: outputs (B) or (B, 1) -> (B).
at::Tensor bernoulli(const at::Tensor& original, const at::Tensor& masked);

/// KL(start) + KL(end) for span heads. Shape: outputs (B, T, 2), padding at -inf -> (B).
at::Tensor span(const at::Tensor& original, const at::Tensor& masked);

/// -log q of the class that the original predicts, in nats: what others minimise in place of a
/// divergence. It is not 0 where the outputs agree. Shape: outputs (B, C); (B) or (B, 1) for one
/// logit, whose classes are its signs.
at::Tensor cross_entropy(const at::Tensor& original, const at::Tensor& masked);

/// Mean squared difference, for regression; not in nats. Shape: outputs (B, ...) -> (B).
at::Tensor squared_error(const at::Tensor& original, const at::Tensor& masked);

}  // namespace divergence
}  // namespace diffmask
