#pragma once
/// \file
/// The objective of De Cao et al. 2020 (section 3, equation 5) at one depth:
///
///     min over probe and baseline, max over lambda >= 0:   R + lambda (D - eps)
///
/// with R a penalty on the keep probabilities P(z_t != 0), averaged over positions and examples.

#include <ATen/core/Tensor.h>

namespace diffmask {

struct PenaltyOptions {
  /// R as a function of P = P(z != 0), or of the product of such over depths:
  enum class Form {
    expected_l0,  ///< mean P: the paper's; its gradient in the logit, P(1-P), dies when all is open
    log_expected_l0,  ///< mean log P: the public reference's; its gradient dies too, as 1-P
    keep_log_odds,    ///< mean clamp(log(P / (1-P)), lower, upper): linear in the logit, never dies
  };
  Form form = Form::keep_log_odds;
  double scale = 0.3;  ///< R is multiplied by this, > 0
  /// Of expected_l0: adds push times what keep_log_odds is, >= 0. The two forms have each their
  /// strength: log-odds get gates going when all are open, but hold a position of middling use at
  /// middling odds, where it costs divergence and no hard mask drops it; P parts those that are
  /// worth their lambda D from those that are not. A little of the first is enough (0.05).
  double push = 0.0;
  double lower = -6;  ///< log-odds under it are closed enough to push no further
  double upper = 8;   ///< log-odds above it are not pushed (all but open)

  void validate() const;
};

/// R, a scalar. Shape: log_keep (B, P), log P(z != 0) of each position; mask (B, P) bool, the
/// positions that count: their mean within a row, then the mean of rows.
at::Tensor penalty(const at::Tensor& log_keep, const at::Tensor& mask,
                   const PenaltyOptions& options);

/// Mean of the masked entries within each row, then over rows: how every keep rate is averaged.
at::Tensor masked_mean(const at::Tensor& values, const at::Tensor& mask);

/// R + lambda (D - eps), where D is the mean of the rows' divergences.
at::Tensor lagrangian(const at::Tensor& penalty, const at::Tensor& divergence, double multiplier,
                      double epsilon);

}  // namespace diffmask
