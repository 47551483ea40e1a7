#pragma once
/// \file
/// What a model and its explainer are given at once.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace diffmask {

/// A model's inputs in order, of any dtype and shape.
using Inputs = std::vector<at::Tensor>;

/// A batch of B examples with P positions each.
struct Batch {
  Inputs inputs;    ///< what the model reads
  at::Tensor mask;  ///< (B, P) bool: the positions to be explained; false: padding, or always kept
  at::Tensor examples;  ///< (B) int64: each example's number in its data set
  at::Tensor labels;    ///< (B), optional: what the examples are known to be

  /// (B, P) int64, optional: positions with the same number >= 0 share one gate (sub-words of a
  /// word, pixels of a region); -1: no gate. Numbers run from 0 in each row.
  at::Tensor groups = {};

  int64_t size() const { return mask.defined() ? mask.size(0) : 0; }

  /// The same batch with every tensor on `device`.
  Batch to(c10::Device device) const;

  /// Examples begin .. begin + size - 1; views.
  Batch narrow(int64_t begin, int64_t size) const;

  /// Throws ArgumentError for an empty batch, an empty sequence, a row without a position to
  /// explain, or tensors that disagree in shape or dtype.
  void validate() const;
};

}  // namespace diffmask
