#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "attribution/erasure/erased.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/data/dataset.hpp"

namespace diffmask {
namespace {

using Objective = RandomSearchOptions::Objective;

class Sampler {
 public:
  Sampler(Judge& judge, const RandomSearchOptions& settings, at::Generator generator)
      : judge_(judge), settings_(settings), generator_(std::move(generator)) {}

  // A random set of the size asked for.
  Candidate drawn(int64_t example) const {
    const auto& units = judge_.numbers()[example];
    const auto count =
        static_cast<int64_t>(std::ceil(settings_.share * static_cast<double>(units.size()) - 1e-9));
    Candidate result{example, judge_.none()};
    const auto order = shuffled(static_cast<int64_t>(units.size()), generator_);
    for (int64_t i = 0; i < count; ++i) result.keep[units[order[i]]] = true;
    return result;
  }

  // The set with one of its units exchanged for another; itself where there is no other.
  Candidate neighbour(const Candidate& set) const {
    std::vector<int64_t> in, out;
    for (const int64_t unit : judge_.numbers()[set.example]) {
      (set.keep[unit] ? in : out).push_back(unit);
    }
    Candidate result{set.example, set.keep};
    if (in.empty() || out.empty()) return result;
    result.keep[any(in)] = false;
    result.keep[any(out)] = true;
    return result;
  }

  // Fills in `value`: the objective, higher being better.
  void score(std::vector<Candidate>& sets) const {
    std::vector<Candidate> shown = sets;
    const bool without = settings_.objective == Objective::comprehensiveness;
    for (Candidate& set : shown) {
      for (const int64_t unit : judge_.numbers()[set.example]) {
        if (without) set.keep[unit] = !set.keep[unit];
      }
    }
    judge_(shown);
    for (size_t i = 0; i < sets.size(); ++i) {
      sets[i].value = without ? -shown[i].value : shown[i].value;
    }
  }

 private:
  int64_t any(const std::vector<int64_t>& units) const {
    return units[at::randint(static_cast<int64_t>(units.size()), {1}, generator_,
                             at::TensorOptions(at::kLong))
                     .item<int64_t>()];
  }

  Judge& judge_;
  const RandomSearchOptions& settings_;
  at::Generator generator_;
};

}  // namespace

void RandomSearchOptions::validate() const {
  require(share > 0 && share <= 1, "share", "in (0, 1]", share);
  require(max_passes >= 1, "max_passes", ">= 1", max_passes);
  require(searches >= 0 && searches <= max_passes, "searches", "in [0, max_passes]", searches);
}

RandomSearch::RandomSearch(std::shared_ptr<const FrozenModel> model, at::Generator generator,
                           AttributionOptions options, RandomSearchOptions settings)
    : SiteMethod(std::move(model), std::move(options)),
      generator_(std::move(generator)),
      settings_(settings) {
  settings_.validate();
  require(generator_.defined(), "generator", "given", "none");
}

SiteMethod::Column RandomSearch::explain(const Original& original, int64_t depth) const {
  const Criterion any_set = [](const at::Tensor& output, const at::Tensor&) {
    return at::ones({output.size(0)}, output.options().dtype(at::kBool));
  };
  Judge judge(original, depth, any_set);
  const Sampler sampler(judge, settings_, generator_);
  // Side by side: each search's set so far, or single draws that only the best is kept of.
  const int64_t lanes =
      settings_.searches > 0 ? settings_.searches : std::min<int64_t>(settings_.max_passes, 16);
  std::vector<Candidate> sets;
  for (int64_t b = 0; b < judge.examples(); ++b) {
    for (int64_t lane = 0; lane < lanes; ++lane) sets.push_back(sampler.drawn(b));
  }
  sampler.score(sets);
  for (int64_t used = lanes; used + lanes <= settings_.max_passes; used += lanes) {
    std::vector<Candidate> tried;
    for (const Candidate& set : sets) {
      tried.push_back(settings_.searches > 0 ? sampler.neighbour(set) : sampler.drawn(set.example));
    }
    sampler.score(tried);
    for (size_t i = 0; i < sets.size(); ++i) {
      if (tried[i].value >= sets[i].value) sets[i] = std::move(tried[i]);
    }
  }
  std::vector<UnitSet> keep;
  std::vector<std::vector<double>> scores;
  for (int64_t b = 0; b < judge.examples(); ++b) {
    const auto begin = sets.begin() + b * lanes;
    keep.push_back(std::max_element(begin, begin + lanes, [](const auto& x, const auto& y) {
                     return x.value < y.value;
                   })->keep);
    scores.emplace_back(keep.back().begin(), keep.back().end());
  }
  return {judge.spread(scores), judge.positions_of(keep)};
}

}  // namespace diffmask
