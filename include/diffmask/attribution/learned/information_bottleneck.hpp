#pragma once
/// \file
/// The information bottleneck for attribution (Schulz, Sixt, Tombari, Landgraf: "Restricting the
/// flow", ICLR 2020): how many bits of a state the prediction needs.
///
///     Z = l h + (1 - l) (mu + sigma n),   n ~ N(0, 1),   l = sigmoid(alpha)
///     min over alpha   E_n[ D(f(x) || f(x with Z)) ] + beta / k KL
///     KL = sum over t and features of  -log(1 - l) + ((1 - l)^2 + (l r)^2 - 1) / 2,
///     r = (h - mu) / sigma
///
/// KL, from Z's distribution to N(mu, sigma^2), bounds the bits about h that Z passes on (equation
/// 4); k is the number of its terms in the example. mu and sigma are those of each channel over the
/// states of a data set. Positions outside of the batch's mask, or of no group, are left as they
/// are and count for nothing.
///
///     scores   = KL / log 2, summed over a position's features: bits
///     keep     = l > 0.5, its mean over features
///     features = KL / log 2, of the state's shape
///
/// Two forms: alpha of each example, found by Adam; or read by a net that is trained once.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/learned/amortised.hpp"
#include "diffmask/attribution/learned/state_statistics.hpp"
#include "diffmask/objective/divergence.hpp"

namespace diffmask {

/// What a site's noise is like.
struct BottleneckOptions {
  double beta = 0.1;  ///< price of the mean KL, > 0 (Schulz et al.: 10)
  Divergence divergence = divergence::categorical;

  /// A channel with sigma = 0 has no bits to pass on, and r is not defined: with a floor of 0 it is
  /// an ArgumentError that names site and channel, else sigma is at least the floor. >= 0.
  double floor = 0.0;
  uint64_t seed = 0;  ///< of the noise

  void validate() const;
};

struct InformationBottleneckOptions : BottleneckOptions {
  int64_t steps = 100;   ///< >= 1
  int64_t draws = 10;    ///< of the noise, in each step, >= 1
  double rate = 0.2;     ///< Adam's step size, > 0
  double initial = 5.0;  ///< alpha at the start: nearly no noise

  /// An alpha for each number of a state, rather than one for each position. Then groups do not
  /// tie positions.
  bool per_feature = false;

  /// As Schulz et al. have it (section 3.1 and appendix): the cross entropy of the predicted class,
  /// beta 10, ten steps of 1, an alpha a feature. They are made for the feature maps of image nets;
  /// docs/results.md has what they give on states of few features.
  static InformationBottleneckOptions published();

  void validate() const;
};

class InformationBottleneck : public SiteMethod {
 public:
  explicit InformationBottleneck(std::shared_ptr<const FrozenModel> model,
                                 AttributionOptions options = {},
                                 InformationBottleneckOptions settings = {});

  /// Takes mu and sigma from these data: the model's training data, or a part of them.
  void fit(const Dataset& data);

  /// Besides what SiteMethod says, Error before `fit`.
  using SiteMethod::attribute;

 protected:
  Column explain(const Original& original, int64_t depth) const override;

 private:
  InformationBottleneckOptions settings_;
  std::map<std::string, StateStatistics> statistics_;
};

/// The amortised form (Schulz et al. 2020, section 3.2): alpha is read by a probe (probe/mlp.hpp)
/// from the states at all of the options' sites, side by side, of the original pass: an alpha a
/// position. Sites have to have the same positions. No gradient is needed to explain.
class ReadOutBottleneck : public SiteMethod {
 public:
  explicit ReadOutBottleneck(std::shared_ptr<const FrozenModel> model,
                             AttributionOptions options = {}, BottleneckOptions settings = {},
                             MlpProbeOptions probe = {});

  /// Takes mu and sigma from the data and trains a probe for each site. Throws Error where a
  /// divergence is not finite.
  void fit(const Dataset& data, const AmortisedOptions& options = {});

  /// Besides what SiteMethod says, Error before `fit`.
  using SiteMethod::attribute;

 protected:
  Column explain(const Original& original, int64_t depth) const override;

 private:
  BottleneckOptions settings_;
  MlpProbeOptions probe_;
  std::map<std::string, StateStatistics> statistics_;
  AmortisedProbes probes_;
};

}  // namespace diffmask
