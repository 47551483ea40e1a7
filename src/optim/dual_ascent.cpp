#include "diffmask/optim/dual_ascent.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "diffmask/core/error.hpp"

namespace diffmask {

void DualAscentOptions::validate() const {
  require(std::isfinite(maximum) && maximum > 0, "maximum", "> 0", maximum);
  require(initial >= 0 && initial <= maximum, "initial", fmt::format("in [0, {}]", maximum),
          initial);
  require(form == Form::clamp || initial > 0, "initial", "> 0 with softplus", initial);
  require(std::isfinite(rate) && rate > 0, "rate", "> 0", rate);
  require(std::isfinite(clip) && clip > 0, "clip", "> 0", clip);
  require(std::isfinite(proportional) && proportional >= 0, "proportional", ">= 0", proportional);
  require(smoothing >= 0 && smoothing < 1, "smoothing", "in [0, 1)", smoothing);
}

DualAscent::DualAscent(int64_t depths, double epsilon, DualAscentOptions options)
    : DualAscent(std::vector<double>(static_cast<size_t>(std::max<int64_t>(depths, 0)), epsilon),
                 options) {}

DualAscent::DualAscent(std::vector<double> epsilons, DualAscentOptions options)
    : epsilons_(std::move(epsilons)), options_(options) {
  options_.validate();
  require(!epsilons_.empty(), "depths", ">= 1", epsilons_.size());
  for (const double epsilon : epsilons_) {
    require(std::isfinite(epsilon) && epsilon > 0, "epsilon", "> 0", epsilon);
  }
  const bool softplus = options_.form == DualAscentOptions::Form::softplus;
  // The inverse of softplus, log(e^x - 1), in a form that does not overflow.
  const double start =
      softplus ? options_.initial + std::log(-std::expm1(-options_.initial)) : options_.initial;
  integrals_.assign(epsilons_.size(), start);
  violations_.assign(epsilons_.size(), 0.0);
}

double DualAscent::multiplier(int64_t depth) const {
  const auto i = static_cast<size_t>(depth);
  double integral = integrals_.at(i);
  if (options_.form == DualAscentOptions::Form::softplus) {
    integral = std::max(integral, 0.0) + std::log1p(std::exp(-std::abs(integral)));
  }
  return std::clamp(integral + options_.proportional * violations_[i], 0.0, options_.maximum);
}

void DualAscent::update(int64_t depth, double divergence) {
  const auto i = static_cast<size_t>(depth);
  const double allowed = epsilon(depth);
  const double now = std::clamp((divergence - allowed) / allowed, -options_.clip, options_.clip);
  violations_[i] = options_.smoothing * violations_[i] + (1 - options_.smoothing) * now;
  const bool clamp = options_.form == DualAscentOptions::Form::clamp;
  integrals_[i] = std::clamp(integrals_[i] + options_.rate * violations_[i],
                             clamp ? 0.0 : -options_.maximum, options_.maximum);
}

}  // namespace diffmask
