#pragma once
/// \file
/// The experiment of De Cao et al. 2020 (sections 4.2 and 4.3): how much of an input and of each
/// hidden state can be masked, and what the model still gets right then.
///
/// For each gating and each of its depths l, by the explainer's hard masks:
///
///     y = f(x),   y' = f with z h + (1 - z) b in place of h_l,   z = 1[P(z != 0) > 0.5]
///     scores of y',   D(y || y'),   the share of positions with z = 0
///
/// and the same for controls: above all for as many positions masked at random, since a mask says
/// something only where random ones of its size do worse.
///
///     const MaskExperiment found = score_masks(*model, test, {{"input", by_input, 0.025},
///                                                             {"hidden", by_hidden, 0.03}},
///                                              {.scorer = scorer::classes(5)});
///     fmt::print("{}", found.full_report("test"));
///     write_file("figures.json", found.json());

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/metrics/output_scorer.hpp"
#include "diffmask/model/frozen_model.hpp"
#include "diffmask/objective/divergence.hpp"
#include "diffmask/train/callback.hpp"

namespace diffmask {

/// A mask to compare an explainer's with.
struct MaskControl {
  std::string name;
  /// Shape: z (B, P), the explainer's hard mask -> (B, P), in [0, 1].
  std::function<at::Tensor(const at::Tensor& z, const Batch& batch, at::Generator generator)> mask;
  int64_t draws = 1;  ///< >= 1: the scores are the mean over so many masks
};

namespace control {

/// "random": each example's z in a random order, so that as many positions are masked.
MaskControl random(int64_t draws = 1);

/// "uniform": every position masked alike, as much as z masks of the example, in place of some
/// positions wholly.
MaskControl uniform();

}  // namespace control

struct MaskExperimentOptions {
  OutputScorer scorer = scorer::agreement();
  Divergence divergence = divergence::classes;
  std::vector<MaskControl> controls = {control::random()};
  uint64_t seed = 0;        ///< of what controls draw
  int64_t batch_size = 64;  ///< examples of like lengths per batch, >= 1
  Callback progress = {};   ///< called after each batch; may stop the run

  void validate() const;
};

/// A way of masking that is scored: a trained explainer, and the D that is allowed (> 0), which may
/// be more than it was trained to.
struct Gating {
  std::string name;
  DiffMask method;
  double epsilon = 0.0;
};

/// What the gatings say of a batch, side by side, as one picture shows it. ArgumentError where there
/// is none; Error for a method that is not fitted.
Attribution attribute(const std::vector<Gating>& gatings, const Batch& batch);

/// The gating, and then it at one epsilon after another, to see what masks cost by how much they take
/// (trade_off_chart): each explainer is trained on from the one before (DiffMask::refine) by
/// trainer_of(epsilon), without warm-up and in half of its steps, which makes it cheap; so a full
/// fit to the same epsilon masks more. Epsilons that rise take away little by little. Error for a
/// method that is not fitted.
///
///     for (const Gating& next : refined_gatings(strict, {0.02, 0.05, 0.1}, training, development,
///                                               [](double e) { return TrainerOptions{e}; }))
///       experiments.push_back(score_masks(*model, test, {next}));
std::vector<Gating> refined_gatings(
    const Gating& first, const std::vector<double>& epsilons, const Dataset& training,
    const Dataset& validation, const std::function<TrainerOptions(double epsilon)>& trainer_of);

/// Outputs under masks of one kind: means over the data set.
struct MaskScore {
  std::vector<double> figures;  ///< the scorer's, in its order
  double masked_share = 0;      ///< of an example's explained positions
  double divergence = 0;        ///< D
  double within_epsilon = 0;    ///< share of examples with D <= epsilon
};

/// One depth's masks, and their controls in the order of the options.
struct DepthScore {
  std::string site;
  MaskScore chosen;
  std::vector<MaskScore> controls;
};

struct GatingScore {
  std::string name;
  Masking masking = Masking::hidden;
  double epsilon = 0;
  std::vector<DepthScore> depths;

  /// Hidden states are masked at one depth at a time: the mean over depths. An input's mask is what
  /// the last depth leaves: the last depth.
  DepthScore summary() const;
};

struct MaskExperiment {
  std::vector<Figure> figures;        ///< the scorer's
  std::vector<std::string> controls;  ///< their names
  MaskScore original;                 ///< nothing is masked
  std::vector<GatingScore> gatings;

  /// ArgumentError, with the nearest names, where there is no gating, or figure, of this name.
  const GatingScore& gating(const std::string& name) const;
  double figure(const MaskScore& score, const std::string& name) const;

  /// A line per gating: "input: 44.6% masked; accuracy 42.9% (random 37.3%, original 44.4%)".
  std::string brief_report() const;

  /// A table with a line per mask, then each gating's summary. The title heads its first column.
  std::string full_report(const std::string& title) const;

  /// {"original": {..}, "<gating>": {"epsilon", "depths": [{"depth", ..}], "summary": {..}},
  ///  "<control>_<gating>": {"depths", "summary"}}, where .. are the scorer's figures and
  /// "masked_share", "divergence", "within_epsilon"; null for NaN.
  std::string json() const;
};

/// Scores each gating's masks at all of its depths; the model is recorded once per batch. Throws
/// ArgumentError for options that are not valid, Error for a method that is not fitted, Cancelled.
MaskExperiment score_masks(const FrozenModel& model, const Dataset& data,
                           const std::vector<Gating>& gatings,
                           const MaskExperimentOptions& options = {});

}  // namespace diffmask
