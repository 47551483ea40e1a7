#pragma once
/// \file
/// Erasure: what happens to the decision when positions are taken away, that is replaced by the
/// fill b.
///
///     h~ = z h + (1 - z) b,   z_t in {0, 1}
///
///     leave-one-out    s_t = m(y) - m(y~),  z = 0 at t alone        (Zintgraf et al. 2017)
///     exact search     the smallest set of kept positions under which the decision holds
///     beam search      a small one, by taking positions away one by one (Feng et al. 2018)
///     random, local    sets of a given size, by chance (Hase, Xie, Bansal 2021)
///
/// Positions of a group (Batch::groups) are taken away together: below, a unit is a group or, in a
/// batch without groups, a position. A group's score is each of its positions'. Positions of no
/// group are never taken away: their score is 0, and searches keep them.

#include <ATen/core/Generator.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/site_method.hpp"

namespace diffmask {

struct LeaveOneOutOptions {
  enum class Measure {
    logit,        ///< m = y, the target
    probability,  ///< m = p, the target of softmax(output), of sigmoid(output) for one logit
    log_odds,     ///< m = log p / (1 - p)
  };
  Measure measure = Measure::logit;

  /// Fills drawn for each position, whose y or p is averaged before m is taken, >= 1: more than one
  /// for random fills, such as fill::conditional_gaussian (Zintgraf et al. 2017, equation 3).
  int64_t samples = 1;

  void validate() const;
};

/// keep = s > 0.
class LeaveOneOut : public SiteMethod {
 public:
  explicit LeaveOneOut(std::shared_ptr<const FrozenModel> model, AttributionOptions options = {},
                       LeaveOneOutOptions settings = {});

 protected:
  Column explain(const Original& original, int64_t depth) const override;

 private:
  LeaveOneOutOptions settings_;
};

struct ExactSearchOptions {
  enum class Empty {
    allowed,  ///< the empty set may be the answer; then all scores are 0
    uniform,  ///< it may be, and stands for all positions alike: scores 1 / units
    refused,  ///< sets begin with one unit
  };
  enum class Ties {
    mean,  ///< s = share of the smallest sets that a position is in
    all,   ///< s = 1 where it is in any of them
    best,  ///< s = 1 where it is in the one that is kept
  };
  Criterion criterion = same_prediction;
  Empty empty = Empty::allowed;
  Ties ties = Ties::mean;

  /// The user's word that keeping more never breaks the decision. Then a unit that cannot be taken
  /// away alone is in every set that holds, and only sets with all of these are tried. Where the
  /// empty set holds all the same, the word is seen to be wrong and not relied on.
  bool monotone = false;
  int64_t max_passes = 100000;  ///< rows per example and site; 0: no limit
  double seconds = 0;           ///< of all examples and sites, from the start; 0: no limit

  void validate() const;
};

/// All of what an exact search found, example by example, of one site.
struct SmallestSets {
  std::string site;
  std::vector<at::Tensor> sets;  ///< an example's, (sets, P) bool, the kept one first
  std::vector<bool> proven;      ///< no smaller set holds
  std::vector<bool> complete;    ///< these are all of that size
  std::vector<bool> pruned;      ///< on the word that the decision is monotone
};

/// Sets by size, smallest first, each size to its end, so that all smallest sets are found. keep is
/// the one with the highest target. proven tells that no smaller one holds: pruned ones rest on
/// `monotone`. Where the budget ends or the run is cancelled before a set is found, what beam
/// search with a beam of 1 finds is kept instead, and is not proven. Units above 20 or so need
/// luck: there are 2^units sets.
class ExactSearch : public SiteMethod {
 public:
  explicit ExactSearch(std::shared_ptr<const FrozenModel> model, AttributionOptions options = {},
                       ExactSearchOptions settings = {});

  /// The sets themselves, site by site.
  std::vector<SmallestSets> search(const Batch& batch) const;

 protected:
  Column explain(const Original& original, int64_t depth) const override;

 private:
  Column explain(const Original& original, int64_t depth, SmallestSets& found) const;

  ExactSearchOptions settings_;
};

struct BeamSearchOptions {
  enum class Rank {
    erasure,   ///< every unit is tried; sets that hold are ranked by their target
    gradient,  ///< only the `beam` units of least dy / dh . (h - b) are (Feng et al. 2018)
  };
  Criterion criterion = same_prediction;
  Rank rank = Rank::erasure;
  int64_t beam = 5;  ///< k, >= 1: sets kept a size

  void validate() const;
};

/// scores = 1 at positions of the set that is kept, the smallest found (of these the one with the
/// highest target); proven where it is empty, or of one unit while the empty set does not hold.
class BeamSearch : public SiteMethod {
 public:
  explicit BeamSearch(std::shared_ptr<const FrozenModel> model, AttributionOptions options = {},
                      BeamSearchOptions settings = {});

 protected:
  Column explain(const Original& original, int64_t depth) const override;

 private:
  BeamSearchOptions settings_;
};

/// How many more positions a search keeps than the exact one; NaN where that is not proven.
/// Shape: (B, D), of the same sites and positions.
at::Tensor size_gap(const Attribution& found, const Attribution& exact);

struct RandomSearchOptions {
  enum class Objective {
    sufficiency,        ///< the target with the set alone is to be high
    comprehensiveness,  ///< the target without the set is to be low
  };
  Objective objective = Objective::sufficiency;
  double share = 0.2;        ///< of an example's units that are chosen, rounded up, in (0, 1]
  int64_t max_passes = 250;  ///< rows per example and site, >= 1 (Hase et al.: 250 to 1000)

  /// 0: each set is drawn anew; else as many local searches run side by side, each exchanging one
  /// unit of its set for another and keeping what is no worse (Hase et al.: 10).
  int64_t searches = 0;

  void validate() const;
};

/// Controls for the searches above: the best of random sets of one size, or parallel local search.
/// scores = 1 in the set.
class RandomSearch : public SiteMethod {
 public:
  RandomSearch(std::shared_ptr<const FrozenModel> model, at::Generator generator,
               AttributionOptions options = {}, RandomSearchOptions settings = {});

 protected:
  Column explain(const Original& original, int64_t depth) const override;

 private:
  at::Generator generator_;
  RandomSearchOptions settings_;
};

}  // namespace diffmask
