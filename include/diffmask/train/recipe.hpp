#pragma once
/// \file
/// Recipes: how an explainer is trained, as opposed to what a user wants of it (TrainerOptions).
///
///     method.fit(data, {.epsilon = 0.1, .recipe = recipe::reference()});

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "diffmask/core/error.hpp"
#include "diffmask/mask/explainer_options.hpp"
#include "diffmask/objective/penalty.hpp"
#include "diffmask/objective/reinforce.hpp"
#include "diffmask/optim/dual_ascent.hpp"
#include "diffmask/optim/lookahead.hpp"
#include "diffmask/optim/optimiser.hpp"
#include "diffmask/train/calibrate.hpp"
#include "diffmask/train/schedule.hpp"
#include "diffmask/train/selection.hpp"

namespace diffmask {

struct Recipe {
  std::string name = "log_odds";  ///< stands in the explainer file

  Schedule schedule = schedule::all;

  /// With input gating, what a depth drops is gone for those above, so one that uses up eps leaves
  /// them nothing to drop. In training depth l has first_share + (1 - first_share) l / (depths - 1)
  /// of eps. In (0, 1].
  double first_share = 1.0;

  /// Multipliers aim at this share of eps, and parameters are selected within halfway from it to
  /// eps, unless they are calibrated: what holds on the validation data may fail on others by a
  /// little. In (0, 1].
  double margin = 1.0;

  /// The Lagrangian has the mean of log(1 + D) over rows in place of D. Where a wrong answer costs
  /// many nats, the few rows that are wrong have all of the gradient otherwise, and gates stay open.
  /// Multipliers move by D itself.
  bool log_divergence = false;

  /// Every so many steps gates are expected ones, z = E[z], in place of samples; 0: never. Samples
  /// alone may settle on equal odds everywhere, of which no hard mask can be made.
  int64_t expected_every = 0;

  /// Multipliers move by the steps with samples alone. E[z] costs little where odds are middling, so
  /// that every second step would take back what samples say is over eps.
  bool multipliers_by_samples = false;

  /// The share of what a probe reads that each step leaves out, in [0, 1) (Dropout). For probes
  /// that learn the training examples by heart: D is then less on these than on the validation
  /// data.
  double dropout = 0.0;

  int64_t warm_up = 300;       ///< steps for the baselines alone, >= 0
  double warm_up_rate = 0.02;  ///< their Adam step size, > 0

  OptimiserFactory optimiser = optimiser::adam(0.95);  ///< forgets fast
  double gate_rate = 0.01;       ///< step size of the probes, > 0 (reference: 3e-4)
  double baseline_rate = 0.005;  ///< step size of the baselines, > 0 (reference: 1e-3)
  double final_rate = 1.0;       ///< both fall linearly to this share at the last step, in (0, 1]
  std::optional<LookaheadOptions> lookahead = {};

  Penalty penalty = penalty::log_odds();
  /// What the penalty changes to, linearly over the middle third of the steps; none: it stays.
  Penalty final_penalty = nullptr;
  DualAscentOptions multiplier = {};
  ControlVariateOptions control = {};  ///< of gates without a gradient, trained by REINFORCE

  /// Before each selection the threshold of hard masks is chosen on the validation data; training
  /// goes on from where it was. None: it stays at P = 0.5 of the trained probes.
  std::optional<CalibrationOptions> calibration = {};
  Selection selection = Selection::both;
  int64_t validate_every = 250;  ///< steps, >= 1; the last step is always validated

  void validate() const {
    const auto positive = [](const char* name, double value) {
      require(std::isfinite(value) && value > 0, name, "> 0", value);
    };
    positive("warm_up_rate", warm_up_rate);
    positive("gate_rate", gate_rate);
    positive("baseline_rate", baseline_rate);
    require(schedule != nullptr, "schedule", "a function", "none");
    require(optimiser != nullptr, "optimiser", "a function", "none");
    require(penalty != nullptr, "penalty", "a function", "none");
    require(expected_every >= 0, "expected_every", ">= 0", expected_every);
    require(dropout >= 0 && dropout < 1, "dropout", "in [0, 1)", dropout);
    require(first_share > 0 && first_share <= 1, "first_share", "in (0, 1]", first_share);
    require(margin > 0 && margin <= 1, "margin", "in (0, 1]", margin);
    require(warm_up >= 0, "warm_up", ">= 0", warm_up);
    require(final_rate > 0 && final_rate <= 1, "final_rate", "in (0, 1]", final_rate);
    require(validate_every >= 1, "validate_every", ">= 1", validate_every);
    multiplier.validate();
    control.validate();
    if (calibration) calibration->validate();
    if (lookahead) lookahead->validate();
  }
};

namespace recipe {

/// The default: log-odds, an absolute multiplier that moves by the relative violation.
Recipe log_odds();

/// The candidate for one recipe for all models. It begins by log-odds, which get open gates going,
/// and ends by P, which parts what is worth its divergence from what is not; thresholds are
/// calibrated. With f the share of the steps done, R the mean over positions, L the log-odds of P
/// clamped to [-6, 8] and w = clamp(3 f - 1, 0, 1), depth l minimises
///
///     (1 - w) 0.3 R(L) + w (R(P) + 0.03 R(L)) + lambda_l mean log(1 + D_l)
///     lambda_l += clamp((D_l - 0.8 eps) / (0.8 eps), -1, 1), in [3, 200], from 5
///
/// by samples and by E[z] in turn, lambda by samples alone.
Recipe one();

/// The public reference's recipe for the toy task: Lookahead over RMSprop, mean log P, one depth
/// per step. Here to be compared with; it needs some 7,000 steps of 128 examples.
Recipe reference();

/// Sums of a few digits (the counting task), whose step size falls to a fifth.
Recipe counting();

/// Reviews read by a GRU: hard masks are what is reported, so expected gates take turns with
/// samples.
Recipe reviews();

/// Images read by a convolutional net. What pixels alone can tell is settled before depths that
/// know the prediction begin.
Recipe images(Masking masking);

/// Edges of graphs (GraphMask's setting).
Recipe graphs();

/// Encoders of texts and of image patches, where any token can stand for another. Multipliers are
/// in units of `unit`, about what a share of all positions is worth in divergence.
Recipe encoder(Masking masking, double unit = 1.0, double rate = 0.015);

/// All of these by their names.
const std::map<std::string, Recipe>& ready();

}  // namespace recipe
}  // namespace diffmask
