#pragma once
/// \file
/// The hard concrete distribution (Louizos, Welling, Kingma: "Learning sparse neural networks
/// through L0 regularization", ICLR 2018, section 2.2), a stretched and clamped binary concrete:
///
///     u ~ U(0,1),  s = sigmoid((log u - log(1-u) + logit) / tau),  z = clamp(s (r - l) + l, 0, 1)
///
///     P(z > x)     = sigmoid(logit - tau log(c / (1-c))),  c = (x - l) / (r - l)
///     log P(z != 0) = logsigmoid(logit - tau log(-l / r))
///     P(z = 1)     = sigmoid(logit - tau log((1-l) / (r-1))) for r > 1, and 0 for r = 1
///     E[z]         = integral over x in [0,1] of P(z > x)
///
/// The closed forms are templates, for double and at::Tensor alike.

#include <ATen/TensorOperators.h>
#include <ATen/ops/log.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/sigmoid.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/quadrature.hpp"

#include "diffmask/core/random.hpp"
#include "diffmask/gate/gate.hpp"

namespace diffmask {

struct HardConcreteOptions {
  double tau = 0.2;     ///< temperature, > 0 (De Cao et al. 2020); GraphMask: 1/3
  double lower = -0.2;  ///< l, < 0: the stretch that puts mass on z = 0
  double upper = 1.0;   ///< r, >= 1; above 1 there is mass on z = 1 too (Louizos et al.: 1.1)
  double location_bias = 0.0;  ///< added to every logit; GraphMask: 3
  bool straight_through =
      false;  ///< forward 1[z > 0.5], backward as z (GraphMask, Schlichtkrull et al. 2021)

  void validate() const {
    require(std::isfinite(tau) && tau > 0, "tau", "> 0", tau);
    require(std::isfinite(lower) && lower < 0, "lower", "< 0", lower);
    require(std::isfinite(upper) && upper >= 1, "upper", ">= 1", upper);
    require(std::isfinite(location_bias), "location_bias", "finite", location_bias);
  }

  template <typename Visit>
  void visit(Visit visit) {
    visit("tau", tau);
    visit("lower", lower);
    visit("upper", upper);
    visit("location_bias", location_bias);
    visit("straight_through", straight_through);
  }
};

namespace hard_concrete {

inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
inline double log_sigmoid(double x) {
  return std::fmin(x, 0.0) - std::log1p(std::exp(-std::fabs(x)));
}
// A tensor's sigmoid and log_sigmoid are found in its own namespace, at.

/// log(c / (1 - c)) at z = x, where c = (x - l) / (r - l); infinite at x = 1 for r = 1.
inline double stretched_logit(const HardConcreteOptions& o, double x) {
  return std::log((x - o.lower) / (o.upper - x));
}

/// P(z > x) for x in [0, 1).
template <typename Scalar>
Scalar survival(const HardConcreteOptions& o, const Scalar& logit, double x) {
  return sigmoid(logit + (o.location_bias - o.tau * stretched_logit(o, x)));
}

/// log P(z != 0).
template <typename Scalar>
Scalar log_expected_l0(const HardConcreteOptions& o, const Scalar& logit) {
  return log_sigmoid(logit + (o.location_bias - o.tau * stretched_logit(o, 0.0)));
}

/// P(z = 0), precise also where it is tiny.
template <typename Scalar>
Scalar p_zero(const HardConcreteOptions& o, const Scalar& logit) {
  return sigmoid((o.tau * stretched_logit(o, 0.0) - o.location_bias) - logit);
}

/// P(z = 1).
template <typename Scalar>
Scalar p_one(const HardConcreteOptions& o, const Scalar& logit) {
  return o.upper > 1.0 ? survival(o, logit, 1.0) : logit * 0.0;
}

/// E[z]. Its integral has no elementary form for a general tau. With t = log(c / (1-c)) for x,
///     E[z] = (r - l) * integral of sigmoid(logit - tau t) sigmoid'(t) dt  between z = 0 and z = 1,
/// and 64 Gauss-Legendre points give it to an absolute error under 1e-7 (tested against a million
/// points).
template <typename Scalar>
Scalar mean(const HardConcreteOptions& o, const Scalar& logit) {
  static const auto rule = gauss_legendre(64);
  // sigmoid'(t) is under 1e-9 beyond |t| = 21: what is cut off there does not show in a float.
  constexpr double kReach = 21.0;
  const double from = std::max(stretched_logit(o, 0.0), -kReach);
  const double to = std::min(o.upper > 1.0 ? stretched_logit(o, 1.0) : kReach, kReach);
  Scalar sum = logit * 0.0;
  for (size_t i = 0; i < rule.first.size(); ++i) {
    const double t = from + (to - from) * rule.first[i];
    const double slope = sigmoid(t) * sigmoid(-t);
    sum = sum + sigmoid(logit + (o.location_bias - o.tau * t)) *
                    (rule.second[i] * (to - from) * (o.upper - o.lower) * slope);
  }
  return sum;
}

}  // namespace hard_concrete

class HardConcrete : public Gate {
 public:
  explicit HardConcrete(HardConcreteOptions options = {}) : options_(options) {
    options_.validate();
  }

  at::Tensor sample(const at::Tensor& logits, at::Generator generator) const override {
    // Away from 0 and 1 by a float's resolution, so that both logs are finite.
    const at::Tensor u =
        drawn_uniform(logits.sizes(), std::move(generator), logits.options().requires_grad(false))
            .clamp(1e-7, 1.0 - 1e-7);
    const at::Tensor s =
        at::sigmoid((at::log(u) - at::log1p(-u) + logits + options_.location_bias) / options_.tau);
    const at::Tensor z = (s * (options_.upper - options_.lower) + options_.lower).clamp(0.0, 1.0);
    if (!options_.straight_through) return z;
    return z + (z.gt(0.5).to(z.scalar_type()) - z).detach();
  }

  at::Tensor mean(const at::Tensor& logits) const override {
    return hard_concrete::mean(options_, logits);
  }

  at::Tensor log_expected_l0(const at::Tensor& logits) const override {
    return hard_concrete::log_expected_l0(options_, logits);
  }

  Part part() const override { return part_of("hard_concrete", options_); }

  const HardConcreteOptions& options() const { return options_; }

 private:
  HardConcreteOptions options_;
};

}  // namespace diffmask
