#pragma once
/// \file
/// Where a state's positions are: which parts of a tensor share one gate.
///
///     sequence  (B, T, F)     position t:         state[b, t, :]
///     image     (B, C, H, W)  position (i, j):    state[b, :, i p : (i+1) p, j p : (j+1) p],
///                             row by row, patches of p x p cells, p = 1: single cells
///     units     (B, P)        position t:         state[b, t], one hidden unit
///
/// Sets of positions that share a gate beyond that (the sub-words of a word) are Batch::groups.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace diffmask {

struct Positions {
  enum class Layout { sequence, image, units };
  Layout layout = Layout::sequence;
  int64_t patch = 1;  ///< side of a patch, in cells; image only; divides height and width

  void validate() const;

  /// What a probe reads of each position. Shape: state -> (B, P, F); image: F = C p p; units: F =
  /// 1.
  at::Tensor features(const at::Tensor& state) const;

  /// One number a position, brought to a shape that broadcasts against `state`. Shape: values (B,
  /// P).
  at::Tensor expand(const at::Tensor& values, const at::Tensor& state) const;

  /// One number a channel likewise. Shape: vector (F), (C) for an image, (P) for units.
  at::Tensor expand_vector(const at::Tensor& vector) const;

  /// Size of such a vector.
  int64_t channels(const at::Tensor& state) const;

  /// The values that each channel has at the positions in `mask`, of a unit in all examples. Shape:
  /// mask (B, P) bool -> (N, channels).
  at::Tensor channel_values(const at::Tensor& state, const at::Tensor& mask) const;

 private:
  void check(const at::Tensor& state) const;
};

/// Mean of `values` over each group, handed back to the group's positions: what ties their gates.
/// Shape: values, groups (B, P) -> (B, G), G = P; entries of groups that are empty are 0.
at::Tensor group_mean(const at::Tensor& values, const at::Tensor& groups);

/// values[b, groups[b, t]] for every position t; positions without a group read group 0.
/// Shape: values (B, G), groups (B, P) -> (B, P).
at::Tensor spread_groups(const at::Tensor& values, const at::Tensor& groups);

}  // namespace diffmask
