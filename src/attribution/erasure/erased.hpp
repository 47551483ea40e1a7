#pragma once
/// \file
/// Units, that is what is erased at once, and the model's output where some are erased.

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "diffmask/attribution/erasure/erasure.hpp"

namespace diffmask {

/// The groups of a batch, or its single positions; numbered 0 .. P - 1 in each example.
class Units {
 public:
  explicit Units(const Batch& batch);

  const at::Tensor& present() const { return present_; }  ///< (B, P) bool: which numbers are used

  /// A number per unit as one per position; positions without a unit get `otherwise`.
  /// Shape: values (N, P) of examples rows (N) -> (N, P).
  at::Tensor spread(const at::Tensor& values, const at::Tensor& rows,
                    const at::Scalar& otherwise) const;

  /// The sum over each unit's positions. Shape: values (N, P) of examples rows (N) -> (N, P).
  at::Tensor sum(const at::Tensor& values, const at::Tensor& rows) const;

 private:
  at::Tensor number_, present_;  // (B, P); number -1: no unit
};

/// What a row's output is reduced to. Shape: outputs of n rows -> (n, ...).
using Reduce = std::function<at::Tensor(const at::Tensor& output, const at::Tensor& original)>;

/// h~ = z h + (1 - z) b, z = 1 at the units kept and at positions without one, for a chunk of rows.
/// Shape: fill the state's; rows (n); keep (n, P) bool.
at::Tensor erased_state(const SiteMethod::Original& original, int64_t depth, const Units& units,
                        const at::Tensor& fill, const Recording& recording, const at::Tensor& rows,
                        const at::Tensor& keep);

/// f with h~ in place of h. Shape: rows (N); keep (N, P) bool -> (N, ...).
at::Tensor erased(const SiteMethod::Original& original, int64_t depth, const Units& units,
                  const at::Tensor& fill, const at::Tensor& rows, const at::Tensor& keep,
                  const Reduce& reduce);

/// A set of units: whether each of 0 .. P - 1 is kept.
using UnitSet = std::vector<bool>;

struct Candidate {
  int64_t example = 0;
  UnitSet keep;
  bool holds = false;  ///< whether the decision is the original one
  double value = 0;    ///< the target
};

/// The search of one site: judges sets of units, and counts what each example cost.
class Judge {
 public:
  Judge(const SiteMethod::Original& original, int64_t depth, const Criterion& criterion);

  /// Fills in `holds` and `value`.
  void operator()(std::vector<Candidate>& candidates);

  const Units& units() const { return units_; }
  const std::vector<std::vector<int64_t>>& numbers() const { return numbers_; }  ///< in use
  int64_t examples() const { return static_cast<int64_t>(numbers_.size()); }
  int64_t positions() const { return units_.present().size(1); }
  int64_t passes(int64_t example) const { return passes_.at(static_cast<size_t>(example)); }

  /// All units of an example; none.
  UnitSet all(int64_t example) const;
  UnitSet none() const { return UnitSet(static_cast<size_t>(positions()), false); }

  /// Sets as positions. Shape: one set an example -> (B, P) bool; one -> (P) bool.
  at::Tensor positions_of(const std::vector<UnitSet>& keep) const;
  at::Tensor positions_of(const Candidate& candidate) const;
  /// One number per unit as one per position; 0 without a unit. Shape: -> (B, P).
  at::Tensor spread(const std::vector<std::vector<double>>& scores) const;

  const SiteMethod::Original& original;
  const int64_t depth;
  const at::Tensor fill;

 private:
  const Criterion& criterion_;
  Units units_;
  std::vector<std::vector<int64_t>> numbers_;
  std::vector<int64_t> passes_;
};

int64_t size_of(const UnitSet& set);

/// What a search found for one example.
struct Reduced {
  std::vector<Candidate> sets;  ///< all that hold of the smallest size reached
  bool proven = false;
};

/// Backward elimination with a beam; one result an example. Examples that are not `wanted` (none:
/// all are) get an empty one.
std::vector<Reduced> beam_search(Judge& judge, const BeamSearchOptions& options,
                                 const std::vector<bool>& wanted = {});

}  // namespace diffmask
