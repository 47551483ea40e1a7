#pragma once
/// \file
/// InfoMask (Asgari Taghanaki et al.: "InfoMask: masked variational latent representation to
/// localize chest disease", MICCAI 2019), at any site of a frozen model: a mask that is a random
/// variable, held to a sparse prior.
///
///     h~ = z h + (1 - z) b,   z_t ~ Bernoulli(q_t), relaxed,   q_t = sigmoid(g_phi(h)_t),
///     min over phi   E[ D(f(x) || f(x with h~)) ] + beta mean_t KL(Bernoulli(q_t) || Bernoulli(p))
///     relaxed:  z = sigmoid((log u - log(1 - u) + logit) / tau),  u ~ U(0, 1)   (Jang et al. 2017)
///
/// b being the options' fill and p the prior's keep rate. Unlike DiffMask there is no constraint:
/// beta sets what a position may cost, and the prior draws every q_t to p, so that no position is
/// ever quite free. The paper trains mask and classifier together, on labels; here the classifier
/// is frozen and D is from what it says.
///
///     scores = q_t;   keep = q_t > 0.5
///
/// Positions of no group are never masked: q_t = 1.

#include <cstdint>
#include <memory>
#include <vector>

#include "diffmask/attribution/learned/amortised.hpp"
#include "diffmask/objective/divergence.hpp"

namespace diffmask {

struct InfoMaskOptions {
  double beta = 0.1;   ///< price of a nat of the mean KL, > 0
  double prior = 0.1;  ///< p, in (0, 1)
  double tau = 0.5;    ///< temperature of the relaxation, > 0
  Divergence divergence = divergence::categorical;
  MlpProbeOptions probe = {.initial_bias = 2.0};

  void validate() const;
};

class InfoMask : public SiteMethod {
 public:
  explicit InfoMask(std::shared_ptr<const FrozenModel> model, AttributionOptions options = {},
                    InfoMaskOptions settings = {});

  /// Trains a probe for each site, which reads the states at all of them. Throws ArgumentError
  /// where a loss is not finite.
  void fit(const Dataset& data, const AmortisedOptions& options = {});

  /// Besides what SiteMethod says, Error before `fit`.
  using SiteMethod::attribute;

 protected:
  Column explain(const Original& original, int64_t depth) const override;

 private:
  InfoMaskOptions settings_;
  AmortisedProbes probes_;
};

namespace infomask {

/// KL(Bernoulli(sigmoid(logit)) || Bernoulli(prior)) in nats, elementwise.
at::Tensor kl(const at::Tensor& logits, double prior);

}  // namespace infomask
}  // namespace diffmask
