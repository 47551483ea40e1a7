#include "diffmask/mask/positions.hpp"

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

void Positions::validate() const {
  require(patch >= 1, "positions.patch", ">= 1", patch);
  require(layout == Layout::image || patch == 1, "positions.patch", "1 for a sequence", patch);
}

void Positions::check(const at::Tensor& state) const {
  const bool image = layout == Layout::image;
  require(state.dim() == (image ? 4 : 3), "state",
          image ? "of shape (B, C, H, W), as its positions are an image's"
                : "of shape (B, T, F), as its positions are a sequence's",
          shape_string(state.sizes()));
  require(!image || (state.size(2) % patch == 0 && state.size(3) % patch == 0), "state",
          fmt::format("of a height and width that patches of {} divide", patch),
          shape_string(state.sizes()));
}

at::Tensor Positions::features(const at::Tensor& state) const {
  check(state);
  if (layout == Layout::sequence) return state;
  return at::pixel_unshuffle(state, patch).flatten(2).transpose(1, 2);
}

at::Tensor Positions::expand(const at::Tensor& values, const at::Tensor& state) const {
  check(state);
  if (layout == Layout::sequence) return values.unsqueeze(-1);
  const int64_t rows = state.size(2) / patch, columns = state.size(3) / patch;
  return values.view({values.size(0), 1, rows, columns})
      .repeat_interleave(patch, 2)
      .repeat_interleave(patch, 3);
}

at::Tensor Positions::expand_vector(const at::Tensor& vector) const {
  return layout == Layout::sequence ? vector : vector.view({-1, 1, 1});
}

int64_t Positions::channels(const at::Tensor& state) const {
  check(state);
  return layout == Layout::sequence ? state.size(2) : state.size(1);
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
