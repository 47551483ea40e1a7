#pragma once
/// \file
/// Penalties: what keeping positions costs, R in
///
///     min over probe and baseline, max over lambda >= 0:   R + lambda (D - eps)
///
/// A penalty maps log P(z != 0) of each position, with the positions that count, to a scalar. Any
/// function of this type will do; these are means over a row's positions, then over rows. All are
/// functions of log P, so that they mean the same for input gating, where P is a product over
/// depths, and for hidden gating.
///
///     Recipe recipe{.penalty = penalty::expected_l0({.scale = 1})};

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/expm1.h>
#include <ATen/ops/log.h>
#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <map>
#include <string>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

/// Shape: log_keep (B, P), log P(z != 0); mask (B, P) bool, the positions that count -> scalar.
using Penalty = std::function<at::Tensor(const at::Tensor& log_keep, const at::Tensor& mask)>;

/// Mean of the masked entries within each row, then over rows: how every keep rate is averaged.
inline at::Tensor masked_mean(const at::Tensor& values, const at::Tensor& mask) {
  check_shape("mask", mask, values.sizes());
  const at::Tensor weights = mask.to(values.scalar_type());
  return ((values * weights).sum(1) / weights.sum(1)).mean();
}

struct PenaltyOptions {
  double scale = 0.3;  ///< R is multiplied by this, > 0

  /// Of expected_l0: adds push times what log_odds is, >= 0. The two forms have each their
  /// strength: log-odds get gates going when all are open, but hold a position of middling use at
  /// middling odds, where it costs divergence and no hard mask drops it; P parts those that are
  /// worth their lambda D from those that are not. A little of the first is enough (0.05).
  double push = 0.0;

  double lower = -6;  ///< log-odds under it are closed enough to push no further
  double upper = 8;   ///< log-odds above it are not pushed (all but open)

  void validate() const {
    require(std::isfinite(scale) && scale > 0, "penalty.scale", "> 0", scale);
    require(std::isfinite(push) && push >= 0, "penalty.push", ">= 0", push);
    require(lower < upper, "penalty.lower", fmt::format("< penalty.upper = {}", upper), lower);
  }
};

namespace penalty {

/// clamp(log(P / (1 - P)), lower, upper). Shape: any.
inline at::Tensor clamped_log_odds(const at::Tensor& log_keep, const PenaltyOptions& options) {
  // Where P is 1 to a float's precision the odds are infinite and their gradient NaN: stop before.
  const at::Tensor log_p = log_keep.clamp_max(-1e-6);
  return (log_p - at::log(-at::expm1(log_p))).clamp(options.lower, options.upper);
}

/// R = scale mean clamp(log(P / (1 - P)), lower, upper): linear in the logit, so that its gradient
/// never dies.
inline Penalty log_odds(PenaltyOptions options = {}) {
  options.validate();
  return [options](const at::Tensor& log_keep, const at::Tensor& mask) {
    return options.scale * masked_mean(clamped_log_odds(log_keep, options), mask);
  };
}

/// R = scale mean P, the paper's (De Cao et al. 2020, equation 5); its gradient in the logit,
/// P (1 - P), dies when all is open.
inline Penalty expected_l0(PenaltyOptions options = {}) {
  options.validate();
  return [options](const at::Tensor& log_keep, const at::Tensor& mask) {
    at::Tensor cost = log_keep.exp();
    if (options.push > 0) cost = cost + options.push * clamped_log_odds(log_keep, options);
    return options.scale * masked_mean(cost, mask);
  };
}

/// R = scale mean log P, the public reference's; its gradient dies, too, as 1 - P.
inline Penalty log_expected_l0(PenaltyOptions options = {}) {
  options.validate();
  return [options](const at::Tensor& log_keep, const at::Tensor& mask) {
    return options.scale * masked_mean(log_keep, mask);
  };
}

/// "expected_l0", "log_expected_l0", "log_odds", with their defaults.
const std::map<std::string, Penalty>& ready();

}  // namespace penalty
}  // namespace diffmask
