#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "attribution/erasure/erased.hpp"
#include "attribution/gradient/gradients.hpp"
#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

using Rank = BeamSearchOptions::Rank;

// For each set, what taking each of its units away would cost by first order: dy / dh~ . (h - b).
std::vector<std::vector<double>> first_order(const Judge& judge,
                                             const std::vector<Candidate>& sets) {
  const auto& original = judge.original;
  const std::string& site = original.site(judge.depth);
  std::vector<at::Tensor> keeps;
  std::vector<int64_t> examples;
  for (const Candidate& set : sets) {
    at::Tensor keep = at::empty({judge.positions()}, at::kBool);
    for (int64_t u = 0; u < judge.positions(); ++u) keep.data_ptr<bool>()[u] = set.keep[u];
    keeps.push_back(keep);
    examples.push_back(set.example);
  }
  const at::Tensor keep = at::stack(keeps).to(judge.fill.device());
  const at::Tensor rows = at::tensor(examples, at::kLong).to(judge.fill.device());
  std::vector<at::Tensor> costs;
  original.passes.each({site}, rows, [&](const Passes::Chunk& chunk) {
    const at::Tensor row = rows.slice(0, chunk.begin, chunk.end);
    const at::Tensor state =
        erased_state(original, judge.depth, judge.units(), judge.fill, chunk.recording, row,
                     keep.slice(0, chunk.begin, chunk.end));
    const at::Tensor gradient = target_gradients(original, chunk.recording, {{site, state}})[0];
    const at::Tensor change = state - judge.fill.index_select(0, row);
    const at::Tensor by_position =
        original.positions(judge.depth).features(gradient * change).sum(2);
    costs.push_back(judge.units().sum(by_position, row).to(at::kDouble).cpu());
  });
  std::vector<std::vector<double>> result;
  for (const at::Tensor& chunk : costs) {
    for (int64_t i = 0; i < chunk.size(0); ++i) {
      const at::Tensor row = chunk[i].contiguous();
      const double* begin = row.data_ptr<double>();
      result.emplace_back(begin, begin + row.numel());
    }
  }
  return result;
}

// Each set without one of its units: any, or one of the `beam` that cost least.
std::vector<Candidate> children(const Judge& judge, const BeamSearchOptions& settings,
                                const std::vector<Candidate>& sets) {
  std::vector<std::vector<double>> costs;
  if (settings.rank == Rank::gradient && !sets.empty()) costs = first_order(judge, sets);
  std::vector<Candidate> result;
  std::set<std::pair<int64_t, UnitSet>> seen;
  for (size_t i = 0; i < sets.size(); ++i) {
    std::vector<int64_t> taken;
    for (const int64_t unit : judge.numbers()[sets[i].example]) {
      if (sets[i].keep[unit]) taken.push_back(unit);
    }
    if (!costs.empty()) {
      std::stable_sort(taken.begin(), taken.end(),
                       [&](int64_t a, int64_t b) { return costs[i][a] < costs[i][b]; });
      taken.resize(std::min(taken.size(), static_cast<size_t>(settings.beam)));
    }
    for (const int64_t unit : taken) {
      Candidate child{sets[i].example, sets[i].keep};
      child.keep[unit] = false;
      if (seen.emplace(child.example, child.keep).second) result.push_back(std::move(child));
    }
  }
  return result;
}

}  // namespace

void BeamSearchOptions::validate() const {
  require(criterion != nullptr, "criterion", "a function", "none");
  require(beam >= 1, "beam", ">= 1", beam);
}

std::vector<Reduced> beam_search(Judge& judge, const BeamSearchOptions& settings,
                                 const std::vector<bool>& wanted) {
  std::vector<Reduced> results(static_cast<size_t>(judge.examples()));
  std::vector<Candidate> beam;
  for (int64_t b = 0; b < judge.examples(); ++b) {
    if (!wanted.empty() && !wanted[b]) continue;
    beam.push_back({b, judge.all(b), /*holds=*/true});
    results[b].sets = {beam.back()};
  }
  try {
    while (!beam.empty()) {
      std::vector<Candidate> next = children(judge, settings, beam);
      judge(next);
      std::stable_sort(next.begin(), next.end(),
                       [](const Candidate& a, const Candidate& b) { return a.value > b.value; });
      std::vector<std::vector<Candidate>> best(results.size());
      for (Candidate& child : next) {
        auto& kept = best[child.example];
        if (child.holds && kept.size() < static_cast<size_t>(settings.beam)) kept.push_back(child);
      }
      beam.clear();
      for (size_t b = 0; b < best.size(); ++b) {
        if (best[b].empty()) continue;
        results[b].sets = std::move(best[b]);
        beam.insert(beam.end(), results[b].sets.begin(), results[b].sets.end());
      }
      // A set of one unit whose only child, the empty set, was tried in vain.
      for (Reduced& result : results) {
        if (result.sets.empty()) continue;
        const int64_t size = size_of(result.sets.front().keep);
        const bool tried = std::any_of(next.begin(), next.end(), [&](const Candidate& child) {
          return child.example == result.sets.front().example && size_of(child.keep) == 0;
        });
        result.proven = result.proven || size == 0 || (size == 1 && tried);
      }
    }
  } catch (const Cancelled&) {
  }
  return results;
}

BeamSearch::BeamSearch(std::shared_ptr<const FrozenModel> model, AttributionOptions options,
                       BeamSearchOptions settings)
    : SiteMethod(std::move(model), std::move(options)), settings_(std::move(settings)) {
  settings_.validate();
}

SiteMethod::Column BeamSearch::explain(const Original& original, int64_t depth) const {
  Judge judge(original, depth, settings_.criterion);
  std::vector<UnitSet> keep;
  std::vector<std::vector<double>> scores;
  const at::Tensor proven = at::empty({judge.examples()}, at::kBool);
  for (const Reduced& result : beam_search(judge, settings_)) {
    proven[static_cast<int64_t>(keep.size())].fill_(result.proven);
    keep.push_back(result.sets.front().keep);
    scores.emplace_back(keep.back().begin(), keep.back().end());
  }
  return {judge.spread(scores),
          judge.positions_of(keep),
          {},
          {},
          proven.to(original.batch.mask.device())};
}

at::Tensor size_gap(const Attribution& found, const Attribution& exact) {
  require(found.sites == exact.sites && found.mask.equal(exact.mask), "found",
          "of the same sites and positions as the exact search", "others");
  require(exact.proven.defined(), "exact", "a search's result, with proofs", "another");
  const auto sizes = [](const Attribution& attribution) {
    return attribution.keep.sum(1).to(at::kDouble);
  };
  return (sizes(found) - sizes(exact)).masked_fill(exact.proven.logical_not(), NAN);
}

}  // namespace diffmask
