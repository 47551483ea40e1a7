#include "diffmask/mask/positions.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <string_view>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

namespace {

struct LayoutNames {
  int64_t dimensions;
  std::string_view shape, owner;
};

LayoutNames names_of(Positions::Layout layout) {
  switch (layout) {
    case Positions::Layout::sequence:
      return {3, "(B, T, F)", "a sequence"};
    case Positions::Layout::image:
      return {4, "(B, C, H, W)", "an image"};
    case Positions::Layout::units:
      return {2, "(B, P)", "a vector"};
  }
  throw ArgumentError("positions.layout", "one of the enumeration's", "another number");
}

}  // namespace

void Positions::validate() const {
  require(patch >= 1, "positions.patch", ">= 1", patch);
  require(layout == Layout::image || patch == 1, "positions.patch",
          fmt::format("1 for {}", names_of(layout).owner), patch);
}

void Positions::check(const at::Tensor& state) const {
  const LayoutNames names = names_of(layout);
  require(state.dim() == names.dimensions, "state",
          fmt::format("of shape {}, as its positions are {}'s", names.shape, names.owner),
          shape_string(state.sizes()));
  require(layout != Layout::image || (state.size(2) % patch == 0 && state.size(3) % patch == 0),
          "state", fmt::format("of a height and width that patches of {} divide", patch),
          shape_string(state.sizes()));
}

at::Tensor Positions::features(const at::Tensor& state) const {
  check(state);
  if (layout == Layout::sequence) return state;
  if (layout == Layout::units) return state.unsqueeze(2);
  return at::pixel_unshuffle(state, patch).flatten(2).transpose(1, 2);
}

at::Tensor Positions::expand(const at::Tensor& values, const at::Tensor& state) const {
  check(state);
  if (layout == Layout::sequence) return values.unsqueeze(-1);
  if (layout == Layout::units) return values;
  const int64_t rows = state.size(2) / patch, columns = state.size(3) / patch;
  return values.view({values.size(0), 1, rows, columns})
      .repeat_interleave(patch, 2)
      .repeat_interleave(patch, 3);
}

at::Tensor Positions::expand_vector(const at::Tensor& vector) const {
  return layout == Layout::image ? vector.view({-1, 1, 1}) : vector;
}

int64_t Positions::channels(const at::Tensor& state) const {
  check(state);
  return layout == Layout::sequence ? state.size(2) : state.size(1);
}

at::Tensor Positions::channel_values(const at::Tensor& state, const at::Tensor& mask) const {
  check(state);
  if (layout == Layout::units) return state;
  // Patches hold several cells of each channel.
  const at::Tensor chosen = features(state).index({mask});
  const at::Tensor cells = chosen.reshape({chosen.size(0), channels(state), -1});
  return cells.transpose(1, 2).flatten(0, 1);
}

at::Tensor group_mean(const at::Tensor& values, const at::Tensor& groups) {
  const at::Tensor member = groups.ge(0).to(values.scalar_type());
  const at::Tensor index = groups.clamp_min(0);
  const at::Tensor zeros = at::zeros_like(member);
  const at::Tensor sums = zeros.scatter_add(1, index, values * member);
  return sums / zeros.scatter_add(1, index, member).clamp_min(1);
}

at::Tensor spread_groups(const at::Tensor& values, const at::Tensor& groups) {
  return values.gather(1, groups.clamp_min(0));
}

}  // namespace diffmask
