#pragma once
/// \file
/// What a training run tells of itself.

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace diffmask {

/// A depth over a data set, without randomness. All are means over examples.
struct DepthEvaluation {
  double divergence = std::numeric_limits<double>::infinity();       ///< D with z = E[z]
  double hard_divergence = std::numeric_limits<double>::infinity();  ///< D with z = 1[P > 0.5]
  double keep = 1.0;       ///< mean P(z != 0) over positions
  double hard_keep = 1.0;  ///< share of positions with P > 0.5
  double within = 0.0;     ///< share of examples with D <= eps under the hard mask
};

/// One depth in one training step.
struct DepthStep {
  int64_t depth = 0;
  double divergence = 0.0;  ///< of the batch, under sampled gates
  double keep = 1.0;        ///< mean P(z != 0) of the batch
  double multiplier = 0.0;  ///< lambda, after the step
};

/// One training step: the depths that were trained in it.
struct StepRecord {
  int64_t step = 0;  ///< from 1
  std::vector<DepthStep> depths;
};

/// A depth after training, as it was selected.
struct DepthSummary {
  std::string site;
  DepthEvaluation validation = {};
  double multiplier = 0.0;  ///< lambda at the end of training
  int64_t step = 0;         ///< the step whose parameters were kept; 0: none was validated
  bool feasible = false;    ///< D <= eps on the validation data, by the criterion of the training
  double shift = 0.0;       ///< what calibration added to the depth's logits (calibrate.hpp)
};

struct Summary {
  double epsilon = 0.0;
  int64_t steps = 0;         ///< steps made
  double seconds = 0.0;      ///< wall time, validation included
  bool interrupted = false;  ///< a callback stopped the run
  std::vector<DepthSummary> depths;
  std::vector<StepRecord> history;

  /// Whether every depth is feasible.
  bool feasible() const;

  /// "2000 steps in 14.2 s: 2 of 2 depths within 0.05 nats"
  std::string brief_report() const;

  /// A table with a line per depth.
  std::string full_report() const;
};

}  // namespace diffmask
