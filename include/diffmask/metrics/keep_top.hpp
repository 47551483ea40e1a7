#pragma once
/// \file
/// Masks of one size from scores of any kind: what makes methods comparable, since every measure of
/// faithfulness rises with the share that is kept.
///
///     k = ceil(share n)    of a row's n explained positions: the k of highest score are kept
///
/// Where scores are equal at the border, no threshold keeps just k. Then chance decides which of
/// the equal ones are kept (so that equal scores do as well as random ones, wherever they stand),
/// and `tied` says so.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

namespace diffmask {

/// A position's place in its row by score, 0 for the highest; positions outside of the mask come
/// last. Equal scores in a random order or, without a generator, in the positions' own. Shape:
/// scores (B, P) finite, mask (B, P) bool -> (B, P) int64.
at::Tensor score_ranks(const at::Tensor& scores, const at::Tensor& mask,
                       at::Generator generator = {});

/// k = ceil(share n) for each row; share in [0, 1]. Shape: mask (B, P) bool -> (B) int64.
at::Tensor top_counts(const at::Tensor& mask, double share);

struct KeepTop {
  at::Tensor keep;  ///< (B, P) bool, k true in each row
  at::Tensor tied;  ///< (B) bool: no threshold on the scores gives a mask of this size
};

KeepTop keep_top(const at::Tensor& scores, const at::Tensor& mask, double share,
                 at::Generator generator = {});

}  // namespace diffmask
