#pragma once
/// \file
/// Calibration: the threshold of hard masks, chosen on validation data. Training holds D near eps
/// for sampled gates. The hard mask 1[P > 0.5] of the same probes may be over eps, or keep far more
/// than eps asks for. A constant c_l, added to all logits of depth l, moves it:
///
///     minimise over c_l   the share kept by 1[P > 0.5]
///     subject to          U(hard mask) <= bound,   U(E[z]) <= bound
///     with                U = mean D + confidence * s / sqrt(n)
///
/// over the n examples of the data, s the standard deviation of their D. U is the upper end of a
/// one-sided confidence interval of the mean, by the normal distribution: what a few examples show
/// is to hold on others. With less than some 50 examples, or where rare ones cost many nats, it may
/// not. A large c keeps everything, at D = 0, so that there always is a solution.
///
///     const std::vector<double> shifts = calibrate(model, explainer, validation, divergence, 0.1);
///
/// With input gating a depth's gates are factors of those of all depths above: only the last may
/// come to mask more, the others at most to keep more, from the lowest up.

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/mask/explainer.hpp"
#include "diffmask/objective/divergence.hpp"
#include "diffmask/objective/penalty.hpp"
#include "diffmask/train/evaluate.hpp"
#include "diffmask/train/recorded_batches.hpp"
#include "diffmask/train/selection.hpp"

namespace diffmask {

struct CalibrationOptions {
  /// Standard errors above the mean D, >= 0; 2.33: 99 % for one threshold, chosen among some tens.
  double confidence = 2.33;
  /// Shares kept, in [0, 1), that count as equal: the shift nearest to 0 is taken among them.
  double tolerance = 0.01;
  int64_t halvings = 4;  ///< of the interval between a shift that is feasible and one that is not

  void validate() const {
    require(std::isfinite(confidence) && confidence >= 0, "confidence", ">= 0", confidence);
    require(tolerance >= 0 && tolerance < 1, "tolerance", "in [0, 1)", tolerance);
    require(halvings >= 0, "halvings", ">= 0", halvings);
  }
};

/// What a depth's masks cost at most, and keep.
struct MaskBound {
  double divergence = 0.0;  ///< U, the larger of the hard mask's and that of E[z]; D's unit
  double keep = 1.0;        ///< share of positions that the hard mask keeps
};

/// U and the share kept of a depth as it is.
inline MaskBound bound_of(const FrozenModel& model, const Explainer& explainer,
                          RecordedBatches& data, const Divergence& divergence, int64_t depth,
                          double confidence) {
  at::NoGradGuard no_grad;
  struct Sums {
    double first = 0.0, second = 0.0;
  } hard, expected;
  double keep = 0.0, examples = 0.0;
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto item = data.at(i);
    const Gates gates = explainer.gates(item->recording, item->batch, {depth}, Draw::mean)[0];
    const at::Tensor kept = gates.log_keep.exp().gt(0.5).to(gates.log_keep.scalar_type());
    const auto add = [&](Sums& sums, const at::Tensor& z) {
      const at::Tensor rows =
          masked_divergence(model, explainer, *item, depth, z, divergence).to(at::kDouble);
      sums.first += rows.sum().item<double>();
      sums.second += rows.square().sum().item<double>();
    };
    add(hard, kept);
    add(expected, gates.z);
    const auto size = static_cast<double>(item->batch.size());
    keep += size * masked_mean(kept, item->batch.mask).item<double>();
    examples += size;
  }
  const auto upper = [&](const Sums& sums) {
    const double mean = sums.first / examples;
    const double variance = std::max(sums.second / examples - mean * mean, 0.0);
    return mean + confidence * std::sqrt(variance / examples);
  };
  return {std::max(upper(hard), upper(expected)), keep / examples};
}

/// The search for one depth's shift: outwards from 0 by doubling, then by bisection. D need not
/// fall with c, so that what is found is feasible, but the best of what was tried alone.
class ShiftSearch {
 public:
  ShiftSearch(const FrozenModel& model, const Explainer& explainer, RecordedBatches& data,
              const Divergence& divergence, double bound, const CalibrationOptions& options)
      : model_(model),
        explainer_(explainer),
        data_(data),
        divergence_(divergence),
        bound_(bound),
        options_(options) {}

  /// Shifts the depth's logits and says by how much; 0 if nothing better was found.
  double operator()(int64_t depth, bool may_mask_more) {
    Probe& probe = explainer_.probe(depth);
    BestParameters start;
    start.keep(probe.parameters());
    tried_.clear();
    const auto at = [&](double shift) {
      start.restore();
      probe.shift(shift);
      tried_.push_back(
          {shift, bound_of(model_, explainer_, data_, divergence_, depth, options_.confidence)});
      return feasible(tried_.back());
    };
    const bool fits = at(0.0);
    if (!fits || may_mask_more) search(fits, at);
    const double shift = chosen();
    start.restore();
    probe.shift(shift);
    return shift;
  }

 private:
  struct Tried {
    double shift;
    MaskBound at;
  };

  bool feasible(const Tried& tried) const { return tried.at.divergence <= bound_; }

  // From what is feasible now to the first that is not, or the other way round.
  template <typename Try>
  void search(bool fits, const Try& at) {
    double feasible = 0.0, infeasible = 0.0;
    bool crossed = false;
    for (double size = 0.25; size <= 64.0 && !crossed; size *= 2) {
      if (fits && tried_.back().at.keep == 0.0) return;  // there is nothing to gain
      const double shift = fits ? -size : size;
      const bool now = at(shift);
      (now ? feasible : infeasible) = shift;
      crossed = now != fits;
    }
    if (!crossed) return;
    for (int64_t i = 0; i < options_.halvings; ++i) {
      const double middle = (feasible + infeasible) / 2;
      (at(middle) ? feasible : infeasible) = middle;
    }
  }

  double chosen() const {
    double least = 2.0, shift = 0.0, size = -1.0;
    for (const Tried& tried : tried_) {
      if (feasible(tried)) least = std::min(least, tried.at.keep);
    }
    for (const Tried& tried : tried_) {
      if (!feasible(tried) || tried.at.keep > least + options_.tolerance) continue;
      if (size >= 0 && std::abs(tried.shift) >= size) continue;
      shift = tried.shift;
      size = std::abs(shift);
    }
    return shift;
  }

  const FrozenModel& model_;
  const Explainer& explainer_;
  RecordedBatches& data_;
  const Divergence& divergence_;
  double bound_;
  const CalibrationOptions& options_;
  std::vector<Tried> tried_;
};

/// ArgumentError unless every probe has Probe::shift, by which calibration moves its logits.
inline void check_shifts(const Explainer& explainer) {
  for (int64_t depth = 0; depth < explainer.depths(); ++depth) {
    require(explainer.probe(depth).shift(0.0), "probe", "one with Probe::shift, to be calibrated",
            fmt::format("that of '{}'", explainer.sites().at(static_cast<size_t>(depth))));
  }
}

/// Shifts the probes' logits as above and returns c_l of each depth, in logits. `bound` > 0 is in
/// D's unit. Throws ArgumentError for another bound, options out of range or a probe without
/// Probe::shift, and what masked_divergence throws.
inline std::vector<double> calibrate(const FrozenModel& model, const Explainer& explainer,
                                     RecordedBatches& data, const Divergence& divergence,
                                     double bound, const CalibrationOptions& options = {}) {
  require(std::isfinite(bound) && bound > 0, "bound", "> 0", bound);
  options.validate();
  check_shifts(explainer);
  ShiftSearch search(model, explainer, data, divergence, bound, options);
  const bool hidden = explainer.options().masking == Masking::hidden;
  std::vector<double> shifts;
  for (int64_t depth = 0; depth < explainer.depths(); ++depth) {
    shifts.push_back(search(depth, hidden || depth + 1 == explainer.depths()));
  }
  return shifts;
}

}  // namespace diffmask
