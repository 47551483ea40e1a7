#pragma once
/// \file
/// The one interface of all attribution methods, and their one result.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/attribution/passes.hpp"
#include "diffmask/data/batch.hpp"
#include "diffmask/mask/fill.hpp"
#include "diffmask/mask/positions.hpp"
#include "diffmask/objective/target.hpp"

namespace diffmask {

class FrozenModel;

/// How much each position matters at each depth.
struct Attribution {
  std::vector<std::string> sites;  ///< the depths' names, D of them
  at::Tensor scores;  ///< (B, P, D) floating point; larger matters more; 0 where `mask` is false
  at::Tensor keep;    ///< (B, P, D) bool: the method's own choice of what the decision needs
  at::Tensor mask;    ///< (B, P) bool: the positions that were explained

  /// Before they were summed over a position's features: one tensor per site, of its state's shape.
  /// Empty where a method has none.
  std::vector<at::Tensor> features = {};
  /// (B, D): what the scores leave unexplained, for methods whose scores ought to sum to something;
  /// each says to what. Undefined for others.
  at::Tensor gap = {};
  /// (B, D) bool, for searches: whether `keep` is known to be best. Undefined for others.
  at::Tensor proven = {};
  int64_t passes = 0;  ///< rows that ran through the model, or a part of it, forward
  int64_t zeroed =
      0;  ///< numbers that were not finite, and are 0 (AttributionOptions::nan_to_zero)

  /// The depths at which a position is still needed, counted by probability: the sum of the scores
  /// over depths (De Cao et al. 2020, section 5). Shape: (B, P).
  at::Tensor depths_survived() const { return scores.sum(2); }
};

/// The attribution with finite scores, features and gaps alone: others are a NotFinite that names
/// the site or, with `nan_to_zero`, 0 and counted. All methods of the library give theirs through
/// it. Those of the registry name themselves, too, and the operator where that comes from.
Attribution finite(Attribution attribution, bool nan_to_zero = false);

/// The depths of several attributions of one batch in a row, a site called "<name>, <site>".
/// ArgumentError where they are not of the same positions.
Attribution side_by_side(const std::vector<std::pair<std::string, Attribution>>& named);

/// What most methods have to be told.
struct AttributionOptions {
  std::vector<std::string> sites = {};    ///< the depths, in execution order; if empty, all sites
  std::vector<Positions> positions = {};  ///< one for all sites, or one per site; empty: sequences
  Target target = target::predicted;      ///< the number that is explained
  Fill fill = fill::zero;   ///< what replaces a state that is taken away; is shown the state with
                            ///< the examples first (Positions::arrange)
  PassOptions passes = {};  ///< how many rows run at once, and who watches

  /// Scores of 0 where the output does not depend on a site, in place of an ArgumentError that
  /// names it; of methods by gradients, which can tell.
  bool zero_where_independent = false;

  /// Scores, features and gaps that are not finite become 0 and are counted (Attribution::zeroed),
  /// in place of a NotFinite.
  bool nan_to_zero = false;

  /// Throws ArgumentError for what no model could do.
  void validate() const;

  /// Valid ones for this model, with all its sites where none were named; else ArgumentError.
  AttributionOptions resolved(const FrozenModel* model) const;

  const Positions& positions_of(size_t depth) const;

  /// Throws ArgumentError for a state that is not finite or has other positions than the batch.
  void check_state(size_t depth, const at::Tensor& state, const Batch& batch) const;
};

class Attributor {
 public:
  virtual ~Attributor() = default;

  /// Explains the model's output on each example of the batch. Throws ArgumentError for a batch
  /// that is not valid (Batch::validate) or does not fit the model.
  virtual Attribution attribute(const Batch& batch) const = 0;
};

}  // namespace diffmask
