#include "diffmask/gate/hard_concrete.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/quadrature.hpp"

namespace diffmask {

void HardConcreteOptions::validate() const {
  require(std::isfinite(tau) && tau > 0, "tau", "> 0", tau);
  require(std::isfinite(lower) && lower < 0, "lower", "< 0", lower);
  require(std::isfinite(upper) && upper >= 1, "upper", ">= 1", upper);
  require(std::isfinite(location_bias), "location_bias", "finite", location_bias);
}

namespace hard_concrete {

namespace {

template <typename Scalar>
Scalar integrate_mean(const HardConcreteOptions& o, const Scalar& logit) {
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

}  // namespace

double mean(const HardConcreteOptions& o, double logit) { return integrate_mean(o, logit); }
at::Tensor mean(const HardConcreteOptions& o, const at::Tensor& logit) {
  return integrate_mean(o, logit);
}

}  // namespace hard_concrete

HardConcrete::HardConcrete(HardConcreteOptions options) : options_(options) { options_.validate(); }

at::Tensor HardConcrete::sample(const at::Tensor& logits, at::Generator generator) const {
  // Away from 0 and 1 by a float's resolution, so that both logs are finite.
  const at::Tensor u =
      at::rand(logits.sizes(), std::move(generator), logits.options().requires_grad(false))
          .clamp(1e-7, 1.0 - 1e-7);
  const at::Tensor s =
      at::sigmoid((at::log(u) - at::log1p(-u) + logits + options_.location_bias) / options_.tau);
  const at::Tensor z = (s * (options_.upper - options_.lower) + options_.lower).clamp(0.0, 1.0);
  if (!options_.straight_through) return z;
  return z + (z.gt(0.5).to(z.scalar_type()) - z).detach();
}

at::Tensor HardConcrete::mean(const at::Tensor& logits) const {
  return hard_concrete::mean(options_, logits);
}

at::Tensor HardConcrete::log_expected_l0(const at::Tensor& logits) const {
  return hard_concrete::log_expected_l0(options_, logits);
}

}  // namespace diffmask
