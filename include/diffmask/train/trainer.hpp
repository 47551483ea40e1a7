#pragma once
/// \file
/// The main loop of DiffMask (De Cao et al. 2020, section 3): at every depth l
///
///     min over phi, b   max over lambda_l >= 0    R_l + lambda_l (D_l - eps)
///
/// with R_l the penalty on keep probabilities and D_l the divergence of the output when depth l is
/// masked by sampled gates. A step takes one recording and one backward pass for all its depths:
///
///     1. record the batch (or take the recording kept from an earlier epoch)
///     2. for each depth of the step: sample gates, mask, resume, add up the Lagrangian
///     3. probes and baselines descend its gradient; each lambda_l ascends D_l - eps
///     4. now and then: validate all depths without randomness, keep the best parameters
///
/// Before, for `warm_up` steps, baselines alone are trained under random masks: that brings them to
/// the neutral region of the state space, where the gates' training starts well (docs/recipe.md).

#include <cstdint>
#include <optional>
#include <vector>

#include "diffmask/mask/explainer.hpp"
#include "diffmask/objective/divergence.hpp"
#include "diffmask/objective/lagrangian.hpp"
#include "diffmask/objective/reinforce.hpp"
#include "diffmask/optim/dual_ascent.hpp"
#include "diffmask/optim/lookahead.hpp"
#include "diffmask/train/callback.hpp"
#include "diffmask/train/recorded_batches.hpp"
#include "diffmask/train/summary.hpp"

namespace diffmask {

struct TrainerOptions {
  /// Which depths a step trains.
  enum class Schedule {
    all,       ///< every depth, from one recording
    random,    ///< one drawn at random: the published way, cheaper a step
    top_down,  ///< the deepest first, one more every steps / depths steps (GraphMask)
    /// The deepest and another one drawn at random. With input gating the deepest's gates are the
    /// product of all, so each step trains every probe, at a third of the cost of `all`.
    deepest_and_random,
    /// The same, but for the first half of the steps the deepest is 0, then 1, ...: what a low
    /// depth can tell from words alone is settled before deep ones, which know the prediction,
    /// begin.
    bottom_up,
  };
  enum class Optimiser { adam, rmsprop };
  /// What has to be within eps on the validation data: the expected gate's divergence, the hard
  /// mask's, or both.
  enum class Criterion { expected, hard, both };

  double epsilon = 0.1;  ///< eps > 0, in the divergence's unit (paper: 0.05 toy, 0.1 SST, 1 SQuAD)
  Divergence divergence = divergence::categorical;
  int64_t steps = 1500;  ///< >= 1
  Schedule schedule = Schedule::all;
  BatchOptions batches;

  /// With input gating, what a depth drops is gone for those above, so one that uses up eps leaves
  /// them nothing to drop. In training depth l has first_share + (1 - first_share) l / (depths - 1)
  /// of eps. In (0, 1].
  double first_share = 1.0;

  /// Every so many steps gates are expected ones, z = E[z], in place of samples; 0: never. Samples
  /// alone may settle on equal odds everywhere, of which no hard mask can be made (docs/recipe.md).
  int64_t expected_every = 0;

  /// The share of what a probe reads that each step leaves out, in [0, 1) (Dropout). For probes
  /// that learn the training examples by heart: D is then less on these than on the validation
  /// data.
  double dropout = 0.0;

  int64_t warm_up = 300;       ///< steps for the baselines alone, >= 0
  double warm_up_rate = 0.02;  ///< their Adam step size, > 0

  Optimiser optimiser = Optimiser::adam;
  double gate_rate = 0.01;       ///< step size of the probes, > 0 (reference: 3e-4)
  double baseline_rate = 0.005;  ///< step size of the baselines, > 0 (reference: 1e-3)
  double beta2 = 0.95;           ///< Adam's decay of second moments, in (0, 1): forgets fast
  double final_rate = 1.0;       ///< both fall linearly to this share at the last step, in (0, 1]
  std::optional<LookaheadOptions> lookahead;

  PenaltyOptions penalty;
  DualAscentOptions multiplier;
  ControlVariateOptions control;  ///< of GateKind::bernoulli, which is trained by REINFORCE

  Criterion criterion = Criterion::both;
  int64_t validate_every = 250;  ///< steps, >= 1; the last step is always validated
  uint64_t seed = 0;             ///< of everything that is drawn

  /// The public reference's recipe for the toy task: Lookahead over RMSprop, mean log P, one depth
  /// a step. Here to be compared with; it needs some 7,000 steps.
  static TrainerOptions reference();

  void validate() const;
};

/// Trains the explainer; it ends with the best parameters found: for each depth (input gating: for
/// all depths together) those that violate D <= eps least on the validation data, among equals
/// those that keep least. Throws Error when a divergence is not finite. The model is not changed.
Summary train(const FrozenModel& model, Explainer& explainer, const Dataset& training,
              const Dataset& validation, const TrainerOptions& options,
              const std::vector<Callback>& callbacks = {});

/// Every depth over the data without randomness, each masked alone. Shape: one entry a depth.
std::vector<DepthEvaluation> evaluate(const FrozenModel& model, const Explainer& explainer,
                                      RecordedBatches& data, const Divergence& divergence,
                                      double epsilon);

}  // namespace diffmask
