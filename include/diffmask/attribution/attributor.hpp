#pragma once
/// \file
/// The one interface of all attribution methods, and their one result.

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "diffmask/data/batch.hpp"

namespace diffmask {

/// How much each position matters at each depth.
struct Attribution {
  std::vector<std::string> sites;  ///< the depths' names, D of them
  at::Tensor scores;  ///< (B, P, D) floating point; larger matters more; 0 where `mask` is false
  at::Tensor keep;    ///< (B, P, D) bool: the method's own choice of what the decision needs
  at::Tensor mask;    ///< (B, P) bool: the positions that were explained

  /// The depths at which a position is still needed, counted by probability: the sum of the scores
  /// over depths (De Cao et al. 2020, section 5). Shape: (B, P).
  at::Tensor depths_survived() const { return scores.sum(2); }
};

/// The depths of several attributions of one batch in a row, a site called "<name>, <site>".
/// ArgumentError where they are not of the same positions.
Attribution side_by_side(const std::vector<std::pair<std::string, Attribution>>& named);

class Attributor {
 public:
  virtual ~Attributor() = default;

  /// Explains the model's output on each example of the batch. Throws ArgumentError for a batch
  /// that is not valid (Batch::validate) or does not fit the model.
  virtual Attribution attribute(const Batch& batch) const = 0;
};

}  // namespace diffmask
