#pragma once
/// \file
/// Faithfulness: does the decision rest on what an attribution says it rests on? Measured at any
/// site, by taking positions away in the order of their scores.
///
///     x \ r_k    the state with the k positions of highest score replaced by the fill
///     r_k        the state with all others replaced;   p = probability of the predicted class
///
///     comprehensiveness   mean over bins of p(x) - p(x \ r_k)             (DeYoung et al. 2020)
///     sufficiency         mean over bins of p(x) - p(r_k)                 (the same)
///     log-odds            mean over bins of log p(x \ r_k) - log p(x)     (Shrikumar et al. 2017)
///     deletion AUC        area under p(x \ r_k) by k / n, from 0 to 1     (Petsiuk et al. 2018)
///     insertion AUC       area under p(r_k) by k / n                      (the same)
///     infidelity          E_I[ (I . s - (y(h) - y(h - I)))^2 ]            (Yeh et al. 2019)
///
/// Bins are shares of an example's n units, k = ceil(share n); a unit is a position, or a group of
/// Batch::groups. The bins' mean has no bin of 0, as in ERASER's own program (its paper divides by
/// one more than there are bins). Every result has one number per example.

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/objective/divergence.hpp"

namespace diffmask {

struct FaithfulnessOptions {
  std::string site = {};
  Positions positions = {};
  Fill fill = fill::zero;  ///< drawn once a batch, so that all methods are measured by one
  std::vector<double> bins = {0.01, 0.05, 0.1, 0.2, 0.5};      ///< in (0, 1] (DeYoung et al. 2020)
  int64_t steps = 10;                                          ///< intervals of curves, >= 1
  Target log_probability = target::predicted_log_probability;  ///< log p
  Target target = target::predicted_logit;                     ///< y, of infidelity
  Divergence divergence = divergence::classes;                 ///< D
  Criterion criterion = same_prediction;                       ///< may be empty: no decision
  PassOptions passes = {};

  void validate() const;
};

/// One number per example, shape (B) each, in double precision.
struct Faithfulness {
  at::Tensor comprehensiveness, sufficiency, log_odds, deletion_auc, insertion_auc;
  at::Tensor deletion, insertion;  ///< (B, steps + 1): p at shares 0, 1 / steps, ..., 1
};

/// What one mask does to the decision, shape (B) each.
struct MaskEffect {
  at::Tensor kept;         ///< share of the units
  at::Tensor divergence;   ///< D(f(x) || f(r)), r the state with what the mask keeps; to be <= eps
  at::Tensor sufficiency;  ///< p(x) - p(r)
  at::Tensor comprehensiveness;  ///< p(x) - p(x \ r)
  at::Tensor agrees;  ///< bool: whether r's decision is x's; undefined without a criterion
};

/// A recorded batch, by which any number of attributions are measured.
class FaithfulnessMeter {
 public:
  /// Throws ArgumentError for options that are not valid, a batch that is not or does not fit the
  /// model, and a site without positions or with others. The model has to outlive this.
  FaithfulnessMeter(const FrozenModel& model, const Batch& batch, FaithfulnessOptions options);
  ~FaithfulnessMeter();

  /// All curves of all examples share passes; the generator orders equal scores (see keep_top.hpp).
  /// Shape: scores (B, P).
  Faithfulness measure(const at::Tensor& scores, at::Generator generator = {});

  /// Shape: keep (B, P) bool. A group is kept where one of its positions is.
  MaskEffect apply(const at::Tensor& keep);

  /// The mask of a share of the units, as one of positions; `tied` where no threshold gives it.
  std::pair<at::Tensor, at::Tensor> top(const at::Tensor& scores, double share,
                                        at::Generator generator = {}) const;

  /// With perturbations I handed in. `scaled`: s is first brought to the scale that fits best, by
  /// E[I.s dy] / E[(I.s)^2] (as the authors' program does), which lets scores in other units be
  /// compared. Shape: features the state's; perturbations (N, B, ...), N states -> (B).
  at::Tensor infidelity(const at::Tensor& features, const at::Tensor& perturbations,
                        bool scaled = false);

  /// The same of one score a unit, I taking away sets of units: I.s is the sum of what is taken
  /// away, h - I the state with the fill there. Shape: scores (B, P); keep (N, B, P) bool -> (B).
  at::Tensor subset_infidelity(const at::Tensor& scores, const at::Tensor& keep,
                               bool scaled = false);

  /// Sets for subset_infidelity: each unit is kept with probability 1/2. Shape: (N, B, P).
  at::Tensor random_subsets(int64_t count, at::Generator generator) const;

  const Recording& recording() const;
  const Batch& batch() const;  ///< on the model's device
  int64_t passes() const;      ///< rows that ran, the original ones among them

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace diffmask
