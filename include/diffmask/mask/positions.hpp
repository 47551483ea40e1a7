#pragma once
/// \file
/// Where a state's positions are: which parts of a tensor share one gate.
///
///     DiffMask method(model, {.positions = {{Positions::Layout::image, /*patch=*/4}}});
///     Lrp(model, {.sites = {"lstm"}, .positions = {Positions::of("TBF")}});   // nn.LSTM's default
///
///     sequence  (B, T, F)     position t:         state[b, t, :]
///     image     (B, C, H, W)  position (i, j):    state[b, :, i p : (i+1) p, j p : (j+1) p],
///                             row by row, patches of p x p cells, p = 1: single cells
///     units     (B, P)        position t:         state[b, t], one hidden unit
///
/// Any other state has its axes named, a letter for each: B the examples, F or C features, every
/// other letter positions, counted row by row.
///
///     "TBF"     time first        "BCL"     a signal              "BCDHW"   a volume
///     "BHWC"    channels last     "NF"      no batch: the nodes of one graph are the positions
///     "(B4)TF"  4 rows for each example, one after another, such as the choices of a question
///
/// Sets of positions that share a gate beyond that (the sub-words of a word) are Batch::groups.

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/data/batch.hpp"

namespace diffmask {

struct Positions {
  enum class Layout { sequence, image, units };
  Layout layout = Layout::sequence;
  int64_t patch = 1;  ///< side of a patch, in cells; of image, or of named position axes that it
                      ///< divides
  std::string axes = {};  ///< if not empty, the axes' names, in place of the layout

  /// Of named axes; ArgumentError where they are none.
  static Positions of(std::string axes);

  void validate() const;

  /// The axes' names: "BTF", "BCHW" and "BP" for the layouts.
  std::string names() const;

  /// What a probe reads of each position.
  /// Shape: state -> (B, P, F); image: F = C p p; units: F = 1.
  at::Tensor features(const at::Tensor& state) const;

  /// One number per position, brought to a shape that broadcasts against `state`.
  /// Shape: values (B, P).
  at::Tensor expand(const at::Tensor& values, const at::Tensor& state) const;

  /// The same without the features' axes: one number per position where the state has its features.
  /// Shape: values (B, P) -> (B, H, W) of an image, (T, B) of "TBF".
  at::Tensor in_place(const at::Tensor& values, const at::Tensor& state) const;

  /// One number per channel likewise. Shape: vector (F), (C) for an image, (P) for units; (1) where
  /// there are several position axes and no features.
  at::Tensor expand_vector(const at::Tensor& vector) const;

  /// Size of such a vector.
  int64_t channels(const at::Tensor& state) const;

  /// The values that each channel has at the positions in `mask`, of a unit in all examples.
  /// Shape: mask (B, P) bool -> (N, channels).
  at::Tensor channel_values(const at::Tensor& state, const at::Tensor& mask) const;

  /// The number of examples, B.
  int64_t examples(const at::Tensor& state) const;

  /// Whether the state's first axis is the examples, row by row.
  bool batch_first() const;
  /// Whether the state is of one example, and no axis is its.
  bool unbatched() const;

  /// A view with the examples first, the other axes in their order; its layout is `arranged()`.
  at::Tensor arrange(const at::Tensor& state) const;
  /// The inverse, for a state of this shape.
  at::Tensor restore(const at::Tensor& arranged) const;
  Positions arranged() const;
};

/// The layout of a depth: `positions` holds one for each depth, one for all, or none for sequences.
inline const Positions& positions_at(const std::vector<Positions>& positions, size_t depth) {
  static const Positions sequence;
  if (positions.empty()) return sequence;
  return positions.size() == 1 ? positions.front() : positions.at(depth);
}

/// Mean of `values` over each group, an entry per group. Shape: values, groups (B, P) -> (B, G),
/// G = P; entries of groups that are empty are 0.
inline at::Tensor group_mean(const at::Tensor& values, const at::Tensor& groups) {
  const at::Tensor member = groups.ge(0).to(values.scalar_type());
  const at::Tensor index = groups.clamp_min(0);
  const at::Tensor zeros = at::zeros_like(member);
  const at::Tensor sums = zeros.scatter_add(1, index, values * member);
  return sums / zeros.scatter_add(1, index, member).clamp_min(1);
}

/// values[b, groups[b, t]] for every position t; positions without a group read group 0.
/// Shape: values (B, G), groups (B, P) -> (B, P).
inline at::Tensor spread_groups(const at::Tensor& values, const at::Tensor& groups) {
  return values.gather(1, groups.clamp_min(0));
}

/// Values of positions that share a group, made the same: their mean. Shape: (B, P).
inline at::Tensor tied(const at::Tensor& values, const Batch& batch) {
  if (!batch.groups.defined()) return values;
  return spread_groups(group_mean(values, batch.groups), batch.groups);
}

/// The positions that may be masked: explained and, where there are groups, of one.
/// Shape: (B, P) bool.
inline at::Tensor free_positions(const Batch& batch) {
  return batch.groups.defined() ? batch.mask.logical_and(batch.groups.ge(0)) : batch.mask;
}

}  // namespace diffmask
