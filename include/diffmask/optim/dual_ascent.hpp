#pragma once
/// \file
/// The multipliers of the constraints D_l <= eps, one per depth, moved by gradient ascent.
///
///     v        = smoothing v + (1 - smoothing) clip((D - eps) / eps, -clip, clip)
///     clamp:     I += rate v, then clamped to [minimum, maximum]
///     softplus:  theta += rate v,  I = softplus(theta)
///     lambda   = I + proportional v, clamped to [minimum, maximum]
///
/// With `proportional` > 0 this is proportional-integral control (Stooke et al. 2020): the integral
/// alone turns back only after the constraint has been crossed, and so swings about it; the
/// proportional term brakes on the way.
///
/// The reference moves lambda by about +-0.3 a step whatever the violation (RMSprop); the relative,
/// clipped violation does the same far from the constraint and settles near it.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {

struct DualAscentOptions {
  enum class Form { clamp, softplus };
  Form form = Form::clamp;
  double initial =
      5.0;  ///< lambda at the start, in [minimum, maximum] (reference: 1; Vision DiffMask: 20)
  double rate = 1.0;          ///< step for a violation of eps, > 0 (reference: 0.3)
  double clip = 1.0;          ///< largest relative violation that counts, > 0
  double proportional = 0.0;  ///< gain of the violation itself, >= 0; 0: the integral alone
  double smoothing = 0.0;     ///< decay of v's running mean over steps, in [0, 1); 0: none
  double minimum = 0.0;    ///< smallest lambda, >= 0: above 0 D counts even where it is within eps
  double maximum = 200.0;  ///< largest lambda, > 0 (reference: 200)

  void validate() const {
    require(std::isfinite(maximum) && maximum > 0, "maximum", "> 0", maximum);
    require(minimum >= 0 && minimum <= maximum, "minimum", fmt::format("in [0, {}]", maximum),
            minimum);
    require(initial >= minimum && initial <= maximum, "initial",
            fmt::format("in [{}, {}]", minimum, maximum), initial);
    require(form == Form::clamp || initial > 0, "initial", "> 0 with softplus", initial);
    require(std::isfinite(rate) && rate > 0, "rate", "> 0", rate);
    require(std::isfinite(clip) && clip > 0, "clip", "> 0", clip);
    require(std::isfinite(proportional) && proportional >= 0, "proportional", ">= 0", proportional);
    require(smoothing >= 0 && smoothing < 1, "smoothing", "in [0, 1)", smoothing);
  }
};

class DualAscent {
 public:
  DualAscent(int64_t depths, double epsilon, DualAscentOptions options = {})
      : DualAscent(std::vector<double>(static_cast<size_t>(std::max<int64_t>(depths, 0)), epsilon),
                   options) {}

  /// With a separate eps for each depth.
  explicit DualAscent(std::vector<double> epsilons, DualAscentOptions options = {})
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

  /// lambda of a depth.
  double multiplier(int64_t depth) const {
    const auto i = static_cast<size_t>(depth);
    double integral = integrals_.at(i);
    if (options_.form == DualAscentOptions::Form::softplus) {
      integral = std::max(integral, 0.0) + std::log1p(std::exp(-std::abs(integral)));
    }
    return std::clamp(integral + options_.proportional * violations_[i], options_.minimum,
                      options_.maximum);
  }

  double epsilon(int64_t depth) const { return epsilons_.at(static_cast<size_t>(depth)); }

  /// One ascent step from the divergence D that a depth has now.
  void update(int64_t depth, double divergence) {
    const auto i = static_cast<size_t>(depth);
    const double allowed = epsilon(depth);
    const double now = std::clamp((divergence - allowed) / allowed, -options_.clip, options_.clip);
    violations_[i] = options_.smoothing * violations_[i] + (1 - options_.smoothing) * now;
    const bool clamp = options_.form == DualAscentOptions::Form::clamp;
    integrals_[i] = std::clamp(integrals_[i] + options_.rate * violations_[i],
                               clamp ? options_.minimum : -options_.maximum, options_.maximum);
  }

 private:
  std::vector<double> epsilons_;
  DualAscentOptions options_;
  std::vector<double> integrals_;   // I, or theta in the softplus form
  std::vector<double> violations_;  // v
};

}  // namespace diffmask
