#pragma once
/// \file
/// Where a state's positions are: which parts of a tensor share one gate.
///
///     DiffMask method(model, {.positions = {{Positions::Layout::image, /*patch=*/4}}});
///
///     sequence  (B, T, F)     position t:         state[b, t, :]
///     image     (B, C, H, W)  position (i, j):    state[b, :, i p : (i+1) p, j p : (j+1) p],
///                             row by row, patches of p x p cells, p = 1: single cells
///     units     (B, P)        position t:         state[b, t], one hidden unit
///
/// Sets of positions that share a gate beyond that (the sub-words of a word) are Batch::groups.

#include <ATen/TensorIndexing.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/pixel_unshuffle.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/data/batch.hpp"

namespace diffmask {

struct Positions {
  enum class Layout { sequence, image, units };
  Layout layout = Layout::sequence;
  int64_t patch = 1;  ///< side of a patch, in cells; image only; divides height and width

  void validate() const {
    require(patch >= 1, "positions.patch", ">= 1", patch);
    require(layout == Layout::image || patch == 1, "positions.patch",
            fmt::format("1 for {}", names().owner), patch);
  }

  /// What a probe reads of each position.
  /// Shape: state -> (B, P, F); image: F = C p p; units: F = 1.
  at::Tensor features(const at::Tensor& state) const {
    check(state);
    if (layout == Layout::sequence) return state;
    if (layout == Layout::units) return state.unsqueeze(2);
    return at::pixel_unshuffle(state, patch).flatten(2).transpose(1, 2);
  }

  /// One number per position, brought to a shape that broadcasts against `state`.
  /// Shape: values (B, P).
  at::Tensor expand(const at::Tensor& values, const at::Tensor& state) const {
    check(state);
    if (layout == Layout::sequence) return values.unsqueeze(-1);
    if (layout == Layout::units) return values;
    const int64_t rows = state.size(2) / patch, columns = state.size(3) / patch;
    return values.view({values.size(0), 1, rows, columns})
        .repeat_interleave(patch, 2)
        .repeat_interleave(patch, 3);
  }

  /// One number per channel likewise. Shape: vector (F), (C) for an image, (P) for units.
  at::Tensor expand_vector(const at::Tensor& vector) const {
    return layout == Layout::image ? vector.view({-1, 1, 1}) : vector;
  }

  /// Size of such a vector.
  int64_t channels(const at::Tensor& state) const {
    check(state);
    return layout == Layout::sequence ? state.size(2) : state.size(1);
  }

  /// The values that each channel has at the positions in `mask`, of a unit in all examples.
  /// Shape: mask (B, P) bool -> (N, channels).
  at::Tensor channel_values(const at::Tensor& state, const at::Tensor& mask) const {
    check(state);
    if (layout == Layout::units) return state;
    // Patches hold several cells of each channel.
    const at::Tensor chosen = features(state).index({mask});
    const at::Tensor cells = chosen.reshape({chosen.size(0), channels(state), -1});
    return cells.transpose(1, 2).flatten(0, 1);
  }

 private:
  struct Names {
    int64_t dimensions;
    std::string_view shape, owner;
  };

  Names names() const {
    if (layout == Layout::sequence) return {3, "(B, T, F)", "a sequence"};
    if (layout == Layout::image) return {4, "(B, C, H, W)", "an image"};
    require(layout == Layout::units, "positions.layout", "one of the enumeration's",
            "another number");
    return {2, "(B, P)", "a vector"};
  }

  void check(const at::Tensor& state) const {
    require(state.dim() == names().dimensions, "state",
            fmt::format("of shape {}, as its positions are {}'s", names().shape, names().owner),
            shape_string(state.sizes()));
    require(layout != Layout::image || (state.size(2) % patch == 0 && state.size(3) % patch == 0),
            "state", fmt::format("of a height and width that patches of {} divide", patch),
            shape_string(state.sizes()));
  }
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
