#include "diffmask/metrics/ranking.hpp"

#include <ATen/ATen.h>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

void check_ranking(const at::Tensor& scores, const at::Tensor& truth) {
  check_shape("scores", scores, {-1});
  check_finite("scores", scores);
  check_shape("truth", truth, scores.sizes());
  check_dtype("truth", truth, at::kBool);
  require(truth.any().item<bool>(), "truth", "true somewhere", "false at all");
}

at::Tensor sorted(const at::Tensor& values) { return std::get<0>(values.contiguous().sort()); }

// How many of the sorted values lie below each score; with `or_equal`, below or at it.
at::Tensor below(const at::Tensor& sorted_values, const at::Tensor& scores, bool or_equal = false) {
  return at::searchsorted(sorted_values, scores, false, or_equal).to(at::kDouble);
}

}  // namespace

double roc_auc(const at::Tensor& scores, const at::Tensor& truth) {
  check_ranking(scores, truth);
  require(!truth.all().item<bool>(), "truth", "false somewhere", "true at all");
  const at::Tensor positive = scores.index({truth}).contiguous();
  const at::Tensor negative = sorted(scores.index({truth.logical_not()}));
  const at::Tensor won = (below(negative, positive) + below(negative, positive, true)) / 2;
  return won.mean().item<double>() / static_cast<double>(negative.size(0));
}

double average_precision(const at::Tensor& scores, const at::Tensor& truth) {
  check_ranking(scores, truth);
  const at::Tensor positive = sorted(scores.index({truth}));
  const auto all = static_cast<double>(scores.size(0));
  const at::Tensor hits = static_cast<double>(positive.size(0)) - below(positive, positive);
  return (hits / (all - below(sorted(scores), positive))).mean().item<double>();
}

}  // namespace diffmask
