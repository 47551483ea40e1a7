#pragma once
/// \file
/// What a model and its explainer are given at once: the model's inputs, and which of their
/// positions are to be explained.
///
///     Batch batch{{tokens}, tokens.ne(padding), at::arange(tokens.size(0))};
///     batch.validate();
///     const Attribution attribution = method.attribute(batch.to(model.device()));

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace diffmask {

/// A model's inputs in order, of any dtype and shape.
using Inputs = std::vector<at::Tensor>;

/// A batch of B examples with P positions each.
struct Batch {
  Inputs inputs;    ///< what the model reads
  at::Tensor mask;  ///< (B, P) bool: true where a position is to be explained; false for padding
                    ///< and for positions that are always kept
  at::Tensor examples = {};  ///< (B) int64, optional: each example's index in its data set
  at::Tensor labels = {};    ///< (B, ...), optional: the examples' true labels

  /// (B, P) int64, optional: positions of one group share one gate (sub-words of a word, pixels of
  /// a region). Groups are numbered from 0 in each row; -1: the position has no gate.
  at::Tensor groups = {};

  /// Where each input's examples lie, optional: an axis, kShared or kWhole. If empty, along axis 0
  /// of all inputs.
  std::vector<int64_t> axes = {};
  static constexpr int64_t kShared = -1;  ///< all examples read it whole: a mask (T, T), a number
  static constexpr int64_t kWhole = -2;  ///< in a way of its own (offsets, edges): no example of it
                                         ///< can be taken without the others

  /// The axis of an input, kShared or kWhole.
  int64_t axis(size_t input) const { return axes.empty() ? 0 : axes.at(input); }
  /// Whether every input lets examples be chosen.
  bool can_select() const;

  int64_t size() const { return mask.defined() ? mask.size(0) : 0; }

  /// The same batch with every tensor on `device`.
  Batch to(c10::Device device) const;

  /// Rows begin .. begin + size - 1, as views. ArgumentError, as for `select`, where they are not
  /// all and an input cannot be chosen from (kWhole).
  Batch narrow(int64_t begin, int64_t size) const;

  /// These rows, copied. Shape: rows (N) int64, on the batch's device.
  Batch select(const at::Tensor& rows) const;

  /// Throws ArgumentError for an empty batch, an empty sequence, a row that has no position to
  /// explain, or tensors that disagree in shape or dtype.
  void validate() const;
};

}  // namespace diffmask
