#include "diffmask/objective/lagrangian.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

at::Tensor clamped_log_odds(const at::Tensor& log_keep, const PenaltyOptions& options) {
  // Where P is 1 to a float's precision the odds are infinite and their gradient NaN: stop before.
  const at::Tensor log_p = log_keep.clamp_max(-1e-6);
  return (log_p - at::log(-at::expm1(log_p))).clamp(options.lower, options.upper);
}

}  // namespace

void PenaltyOptions::validate() const {
  require(std::isfinite(scale) && scale > 0, "penalty.scale", "> 0", scale);
  require(std::isfinite(push) && push >= 0, "penalty.push", ">= 0", push);
  require(lower < upper, "penalty.lower", fmt::format("< penalty.upper = {}", upper), lower);
}

at::Tensor masked_mean(const at::Tensor& values, const at::Tensor& mask) {
  check_shape("mask", mask, values.sizes());
  const at::Tensor weights = mask.to(values.scalar_type());
  return ((values * weights).sum(1) / weights.sum(1)).mean();
}

at::Tensor penalty(const at::Tensor& log_keep, const at::Tensor& mask,
                   const PenaltyOptions& options) {
  at::Tensor cost;
  switch (options.form) {
    case PenaltyOptions::Form::expected_l0:
      cost = log_keep.exp();
      if (options.push > 0) cost = cost + options.push * clamped_log_odds(log_keep, options);
      break;
    case PenaltyOptions::Form::log_expected_l0:
      cost = log_keep;
      break;
    case PenaltyOptions::Form::keep_log_odds:
      cost = clamped_log_odds(log_keep, options);
      break;
  }
  return options.scale * masked_mean(cost, mask);
}

at::Tensor lagrangian(const at::Tensor& penalty, const at::Tensor& divergence, double multiplier,
                      double epsilon) {
  return penalty + multiplier * (divergence.mean() - epsilon);
}

}  // namespace diffmask
