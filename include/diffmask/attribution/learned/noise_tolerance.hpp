#pragma once
/// \file
/// Noise tolerance (Guan, Wang, Zhang, Chen, He, Xie: "Towards a deep and unified understanding of
/// deep neural models in NLP", ICML 2019): how much noise each position bears.
///
///     h~_t = h_t + sigma_t n_t,   n ~ N(0, 1),   for each example on its own
///     min over sigma   E_n[ D(f(x), f(x with h~)) ] - lambda sum_t log sigma_t
///
/// log sigma_t is the entropy of position t's noise, but for a constant and a factor. Where the
/// output hardly depends on a position, its noise grows until it is `largest`. Positions outside of
/// the batch's mask, or of no group, are given none.
///
///     scores = 1 / sigma_t: the precision with which the output needs the position, in units of 1
///              over those of the state; the log of it is Guan's entropy turned round
///     keep   = sigma_t below its geometric mean over the example's positions
///
/// Known limits: noise is the same in all directions of a state, so that sites whose positions
/// differ in scale are compared with care; and a position that is needed, but where being far off
/// does no harm (a saturated state), bears much noise.

#include <cstdint>
#include <memory>

#include "diffmask/attribution/site_method.hpp"
#include "diffmask/objective/divergence.hpp"

namespace diffmask {

struct NoiseToleranceOptions {
  Divergence divergence = divergence::squared_error;  ///< D; Guan et al.: the squared distance
  double lambda = 0.05;                               ///< price of a nat of quiet, > 0, in D's unit
  int64_t steps = 150;                                ///< >= 1
  int64_t draws = 10;                                 ///< of the noise, in each step, >= 1
  double rate = 0.1;                                  ///< Adam's step size in log sigma, > 0
  double initial = 0.05;                  ///< sigma at the start, in [smallest, largest]
  double smallest = 1e-4, largest = 1e2;  ///< bounds of sigma, > 0
  uint64_t seed = 0;                      ///< of the noise

  /// As in the comparison of De Cao et al. 2020, by its public code: ten steps of 0.1 with one draw
  /// each, lambda 10, sigma from 0.0067 (but a mean over the batch, and RMSprop). On the counting
  /// task that tells no positions apart (docs/results.md).
  static NoiseToleranceOptions published();

  void validate() const;
};

class NoiseTolerance : public SiteMethod {
 public:
  explicit NoiseTolerance(std::shared_ptr<const FrozenModel> model, AttributionOptions options = {},
                          NoiseToleranceOptions settings = {});

 protected:
  Column explain(const Original& original, int64_t depth) const override;

 private:
  NoiseToleranceOptions settings_;
};

}  // namespace diffmask
