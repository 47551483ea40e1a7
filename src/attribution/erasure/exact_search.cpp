#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "attribution/erasure/erased.hpp"
#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

// All sets of one size that hold what is necessary, in lexicographic order of the units added.
class Subsets {
 public:
  Subsets(const std::vector<int64_t>& units, UnitSet necessary, int64_t size)
      : set_(std::move(necessary)) {
    for (const int64_t unit : units) {
      if (!set_[unit]) free_.push_back(unit);
    }
    const int64_t added = size - size_of(set_);
    done_ = added < 0 || added > static_cast<int64_t>(free_.size());
    for (int64_t i = 0; !done_ && i < added; ++i) chosen_.push_back(i);
  }

  // Gives the next set; false after the last.
  bool next(UnitSet& set) {
    if (done_) return false;
    set = set_;
    for (const int64_t i : chosen_) set[free_[i]] = true;
    const auto added = static_cast<int64_t>(chosen_.size());
    const auto last = static_cast<int64_t>(free_.size()) - added;
    int64_t i = added - 1;
    while (i >= 0 && chosen_[i] == last + i) --i;
    done_ = i < 0;
    if (done_) return true;
    ++chosen_[i];
    for (int64_t j = i + 1; j < added; ++j) chosen_[j] = chosen_[j - 1] + 1;
    return true;
  }

 private:
  UnitSet set_;
  std::vector<int64_t> free_, chosen_;
  bool done_ = false;
};

// One example's search.
struct State {
  UnitSet necessary;             // in every set
  std::vector<Candidate> found;  // of one size
  bool pruned = false, complete = false, ended = false;
};

class Search {
 public:
  Search(Judge& judge, const ExactSearchOptions& settings)
      : judge_(judge), settings_(settings), states_(static_cast<size_t>(judge.examples())) {
    for (State& state : states_) state.necessary = judge.none();
  }

  std::vector<State> run() {
    try {
      if (settings_.monotone) find_necessary();
      const int64_t first = settings_.empty == ExactSearchOptions::Empty::refused ? 1 : 0;
      for (int64_t size = first; size <= judge_.positions() && !all_ended(); ++size) try_size(size);
    } catch (const Cancelled&) {
      for (State& state : states_) state.ended = true;
    }
    for (State& state : states_) {
      std::stable_sort(state.found.begin(), state.found.end(),
                       [](const Candidate& a, const Candidate& b) { return a.value > b.value; });
    }
    return std::move(states_);
  }

 private:
  bool all_ended() const {
    return std::all_of(states_.begin(), states_.end(), [](const State& s) { return s.ended; });
  }

  bool in_budget(int64_t example) const {
    return (settings_.max_passes == 0 || judge_.passes(example) < settings_.max_passes) &&
           (settings_.seconds == 0 || judge_.original.passes.seconds() < settings_.seconds);
  }

  // Those that cannot be taken away alone.
  void find_necessary() {
    std::vector<Candidate> empty, others;  // none kept; all but one
    std::vector<int64_t> taken;
    for (int64_t b = 0; b < judge_.examples(); ++b) {
      empty.push_back({b, judge_.none()});
      for (const int64_t unit : judge_.numbers()[b]) {
        others.push_back({b, judge_.all(b)});
        others.back().keep[unit] = false;
        taken.push_back(unit);
      }
    }
    judge_(empty);
    judge_(others);
    for (size_t i = 0; i < others.size(); ++i) {
      const int64_t b = others[i].example;
      if (others[i].holds || empty[b].holds) continue;
      states_[b].necessary[taken[i]] = states_[b].pruned = true;
    }
  }

  // All sets of this size of all examples, as many at a time as some passes take.
  void try_size(int64_t size) {
    const auto at_once = static_cast<size_t>(16 * judge_.original.passes.options().max_batch);
    std::vector<Candidate> candidates;
    for (int64_t b = 0; b < judge_.examples(); ++b) {
      State& state = states_[b];
      if (state.ended) continue;
      Subsets subsets(judge_.numbers()[b], state.necessary, size);
      UnitSet set;
      int64_t waiting = 0;
      while (subsets.next(set)) {
        if (!in_budget(b) ||
            (settings_.max_passes > 0 && judge_.passes(b) + waiting >= settings_.max_passes)) {
          state.ended = true;
          break;
        }
        candidates.push_back({b, set});
        ++waiting;
        if (candidates.size() < at_once) continue;
        flush(candidates);
        waiting = 0;
      }
    }
    flush(candidates);
    for (State& state : states_) {
      state.complete = !state.ended && !state.found.empty();
      state.ended = state.ended || state.complete;
    }
  }

  void flush(std::vector<Candidate>& candidates) {
    judge_(candidates);
    for (Candidate& candidate : candidates) {
      if (candidate.holds) states_[candidate.example].found.push_back(std::move(candidate));
    }
    candidates.clear();
  }

  Judge& judge_;
  const ExactSearchOptions& settings_;
  std::vector<State> states_;
};

// What one example's sets say of each unit.
std::vector<double> scores_of(const std::vector<Candidate>& sets, const UnitSet& units,
                              const ExactSearchOptions& settings) {
  std::vector<double> scores(units.size(), 0.0);
  if (size_of(sets.front().keep) == 0 && settings.empty == ExactSearchOptions::Empty::uniform) {
    for (size_t u = 0; u < units.size(); ++u) {
      if (units[u]) scores[u] = 1.0 / static_cast<double>(size_of(units));
    }
    return scores;
  }
  const size_t counted = settings.ties == ExactSearchOptions::Ties::best ? 1 : sets.size();
  for (size_t i = 0; i < counted; ++i) {
    for (size_t u = 0; u < units.size(); ++u) scores[u] += sets[i].keep[u];
  }
  for (double& score : scores) {
    score = settings.ties == ExactSearchOptions::Ties::all ? score > 0
                                                           : score / static_cast<double>(counted);
  }
  return scores;
}

}  // namespace

void ExactSearchOptions::validate() const {
  require(criterion != nullptr, "criterion", "a function", "none");
  require(max_passes >= 0, "max_passes", ">= 0", max_passes);
  require(seconds >= 0, "seconds", ">= 0", seconds);
}

ExactSearch::ExactSearch(std::shared_ptr<const FrozenModel> model, AttributionOptions options,
                         ExactSearchOptions settings)
    : SiteMethod(std::move(model), std::move(options)), settings_(std::move(settings)) {
  settings_.validate();
}

// Each example's sets; those without get the one that a beam of 1 finds.
SiteMethod::Column ExactSearch::explain(const Original& original, int64_t depth,
                                        SmallestSets& result) const {
  Judge judge(original, depth, settings_.criterion);
  std::vector<State> states = Search(judge, settings_).run();
  std::vector<bool> none;
  for (const State& state : states) none.push_back(state.found.empty());
  auto reduced = beam_search(judge, {.criterion = settings_.criterion, .beam = 1}, none);

  std::vector<UnitSet> keep;
  std::vector<std::vector<double>> scores;
  for (int64_t b = 0; b < judge.examples(); ++b) {
    const State& state = states[b];
    const std::vector<Candidate>& sets = none[b] ? reduced[b].sets : state.found;
    keep.push_back(sets.front().keep);
    scores.push_back(scores_of(sets, judge.all(b), settings_));
    result.proven.push_back(!none[b]);
    result.complete.push_back(state.complete);
    result.pruned.push_back(state.pruned);
    std::vector<at::Tensor> positions;
    for (const Candidate& set : sets) positions.push_back(judge.positions_of(set));
    result.sets.push_back(at::stack(positions) & original.batch.mask[b]);
  }
  result.site = original.site(depth);
  Column column{judge.spread(scores), judge.positions_of(keep)};
  column.proven = at::empty({judge.examples()}, at::kBool);
  for (int64_t b = 0; b < judge.examples(); ++b) column.proven[b].fill_(bool(result.proven[b]));
  column.proven = column.proven.to(original.batch.mask.device());
  return column;
}

SiteMethod::Column ExactSearch::explain(const Original& original, int64_t depth) const {
  SmallestSets ignored;
  return explain(original, depth, ignored);
}

std::vector<SmallestSets> ExactSearch::search(const Batch& batch) const {
  std::vector<SmallestSets> found(options().sites.size());
  with_original(batch, [&](const Original& original) {
    for (size_t depth = 0; depth < found.size(); ++depth) {
      explain(original, static_cast<int64_t>(depth), found[depth]);
    }
  });
  return found;
}

}  // namespace diffmask
