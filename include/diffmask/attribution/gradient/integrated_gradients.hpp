#pragma once
/// \file
/// Integrated gradients (Sundararajan, Taly, Yan: "Axiomatic attribution for deep networks", ICML
/// 2017), at any site, or along a path that moves several at once:
///
///     features = (h - b) * integral over a in [0, 1] of grad y(b + a (h - b)),   b the fill
///     completeness:   sum of features = y(h) - y(b)
///
/// With a random fill, several baselines and Rule::random these are expected gradients (Erion et
/// al. 2021).

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "diffmask/attribution/site_method.hpp"

namespace diffmask {

struct IntegratedGradientsOptions {
  enum class Rule {
    gauss_legendre,  ///< exact where the gradient is a polynomial of degree 2 steps - 1 in a
    trapezoid,       ///< equal steps with both ends; at least two
    left,            ///< Riemann sums: the left end of each of `steps` intervals,
    middle,          ///< its middle,
    right,           ///< its right end
    random,          ///< a ~ U(0, 1), drawn anew for each example and step
  };
  Rule rule = Rule::gauss_legendre;
  int64_t steps = 50;  ///< gradients an example and baseline, >= 1

  /// Where |gap| > tolerance * |y(h) - y(b)|, an example is done again with twice the steps, until
  /// they would be more than `max_steps`; 0: never, nor is it with Rule::random. In [0, 1).
  double tolerance = 1e-3;
  int64_t max_steps = 400;  ///< >= 1

  /// Fills drawn, of which the mean is taken, >= 1; with a fill that is not random, one is enough.
  int64_t baselines = 1;
  bool together = false;         ///< one path moves all sites at once; else a path for each
  at::Generator generator = {};  ///< for Rule::random

  void validate() const;
};

class IntegratedGradients : public SiteMethod {
 public:
  explicit IntegratedGradients(std::shared_ptr<const FrozenModel> model,
                               AttributionOptions options = {},
                               IntegratedGradientsOptions settings = {});

  /// gap = y(h) - y(b), a mean over baselines, less the sum of all features: of the site, or of all
  /// sites where they move together. Positions outside of the batch's mask have features, too, so
  /// that scores alone may sum to less.
  using SiteMethod::attribute;

 protected:
  Column explain(const Original& original, int64_t depth) const override;
  std::vector<Column> explain_all(const Original& original) const override;

 private:
  IntegratedGradientsOptions settings_;
};

}  // namespace diffmask
