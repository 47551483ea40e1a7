#pragma once
/// \file
/// What a classifier still gets right, and how far its output moves, where masks act on one site:
///
///     y' = f with h~ = z h + (1 - z) b in place of h,   D = KL(y || y')
///
/// for masks that an explainer chose, and for as many positions masked at random: a mask says
/// something only where random ones of its size do worse.

#include <cstdint>
#include <functional>

#include "diffmask/mask/explainer.hpp"
#include "diffmask/train/recorded_batches.hpp"

namespace diffmask {

/// Means over the examples of a data set with labels.
struct MaskScore {
  double accuracy = 0, macro_f1 = 0;  ///< of y'
  double masked_share = 0;            ///< of the explained positions of an example
  double divergence = 0;              ///< D, in nats
  double within_epsilon = 0;          ///< share of examples with D <= eps

  /// Adds `weight` times each of the other's figures.
  void add(const MaskScore& other, double weight);
};

/// The mask z of a batch. Shape: (B, P), in [0, 1].
using Masks = std::function<at::Tensor(const RecordedBatch&)>;

MaskScore score_masks(const FrozenModel& model, const Explainer& explainer, int64_t depth,
                      RecordedBatches& data, double epsilon, int64_t classes, const Masks& masks);

struct MaskScores {
  MaskScore chosen, random;
};

/// The hard masks of a depth, and as much masked at random: the mean of `draws` >= 1 of those.
MaskScores score_depth(const FrozenModel& model, const Explainer& explainer, int64_t depth,
                       RecordedBatches& data, double epsilon, int64_t classes, int64_t draws,
                       at::Generator generator);

}  // namespace diffmask
