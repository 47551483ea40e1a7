#include "diffmask/metrics/keep_top.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

void check_scores(const at::Tensor& scores, const at::Tensor& mask) {
  check_shape("mask", mask, {-1, -1});
  check_dtype("mask", mask, at::kBool);
  check_shape("scores", scores, mask.sizes());
  check_finite("scores", scores.masked_fill(mask.logical_not(), 0));
}

}  // namespace

at::Tensor score_ranks(const at::Tensor& scores, const at::Tensor& mask, at::Generator generator) {
  check_scores(scores, mask);
  // Two stable sorts: by chance, then by score.
  const at::Tensor first =
      generator.defined()
          ? at::argsort(at::rand(mask.sizes(), generator).to(mask.device()), int64_t{1}, false)
          : at::arange(mask.size(1), scores.options().dtype(at::kLong)).expand(mask.sizes());
  const at::Tensor values = scores.to(at::kDouble).masked_fill(mask.logical_not(), -INFINITY);
  const at::Tensor second = std::get<1>(at::sort(values.gather(1, first), /*stable=*/true,
                                                 /*dim=*/1, /*descending=*/true));
  const at::Tensor order = first.gather(1, second);
  const at::Tensor places = at::arange(mask.size(1), order.options()).expand(mask.sizes());
  return at::empty(order.sizes(), order.options()).scatter(1, order, places);
}

at::Tensor top_counts(const at::Tensor& mask, double share) {
  require(share >= 0 && share <= 1, "share", "in [0, 1]", share);
  constexpr double kRounding = 1e-9;  // 0.1 of 10 positions is one, not two
  return (mask.sum(1).to(at::kDouble) * share - kRounding).ceil().clamp_min(0).to(at::kLong);
}

KeepTop keep_top(const at::Tensor& scores, const at::Tensor& mask, double share,
                 at::Generator generator) {
  const at::Tensor ranks = score_ranks(scores, mask, generator);
  const at::Tensor keep = ranks.lt(top_counts(mask, share).unsqueeze(1));
  const at::Tensor values = scores.to(at::kDouble);
  const at::Tensor least_kept =
      std::get<0>(values.masked_fill(keep.logical_not(), INFINITY).min(1));
  const at::Tensor most_left =
      std::get<0>(values.masked_fill(keep.logical_or(mask.logical_not()), -INFINITY).max(1));
  return {keep, least_kept.eq(most_left)};
}

}  // namespace diffmask
