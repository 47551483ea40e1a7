#include "diffmask/metrics/mask_experiment.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/attribution/passes.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/mask/masking.hpp"
#include "diffmask/train/recorded_batches.hpp"

namespace diffmask {
namespace {

// Streams of randomness: this and the depth.
constexpr uint64_t kControls = 200;

// The share of each example's explained positions that z keeps. Shape: z (B, P) -> (B).
at::Tensor kept(const at::Tensor& z, const at::Tensor& mask) {
  const at::Tensor weights = mask.to(z.scalar_type());
  return (z * weights).sum(1) / weights.sum(1);
}

at::Tensor in_double(const at::Tensor& values) { return values.to(at::kCPU, at::kDouble); }

// The rows of one kind of mask at one depth, batch by batch.
class Tally {
 public:
  void add(const MaskedOutput& of, const MaskExperimentOptions& options) {
    const int64_t size = of.batch.size();
    const at::Tensor rows = options.scorer.read(of);
    require(rows.defined() && rows.dim() <= 2 && rows.dim() >= 1 && rows.size(0) == size,
            "scorer.read", fmt::format("a function that gives {} rows", size),
            rows.defined() ? shape_string(rows.sizes()) : "an undefined tensor");
    const at::Tensor divergences = options.divergence(of.original, of.output);
    check_shape("divergence(original, masked)", divergences, {size});
    rows_.push_back(in_double(rows.reshape({size, -1})));
    kept_.push_back(in_double(kept(of.z, of.batch.mask)));
    divergences_.push_back(in_double(divergences));
  }

  MaskScore score(const OutputScorer& scorer, double epsilon) const {
    const at::Tensor divergences = at::cat(divergences_);
    MaskScore score{scorer.reduce(at::cat(rows_)), 1 - at::cat(kept_).mean().item<double>(),
                    divergences.mean().item<double>(),
                    divergences.le(epsilon).to(at::kDouble).mean().item<double>()};
    require(score.figures.size() == scorer.figures.size(), "scorer.reduce",
            fmt::format("a function that gives {} figures", scorer.figures.size()),
            fmt::format("one that gives {}", score.figures.size()));
    return score;
  }

 private:
  std::vector<at::Tensor> rows_, kept_, divergences_;
};

// Calls use(number, weight) for each number of both.
template <typename Use>
void each_number(MaskScore& sum, const MaskScore& score, const Use& use) {
  for (size_t i = 0; i < sum.figures.size(); ++i) use(sum.figures[i], score.figures.at(i));
  use(sum.masked_share, score.masked_share);
  use(sum.divergence, score.divergence);
  use(sum.within_epsilon, score.within_epsilon);
}

MaskScore mean_of(const std::vector<MaskScore>& scores) {
  MaskScore sum{std::vector<double>(scores.at(0).figures.size(), 0.0)};
  for (const MaskScore& score : scores) {
    each_number(sum, score, [&](double& total, double value) {
      total += value / static_cast<double>(scores.size());
    });
  }
  return sum;
}

// One gating at one depth: its own masks, and those of each draw of each control.
class DepthTally {
 public:
  DepthTally(std::string site, int64_t depth, const MaskExperimentOptions& options,
             c10::Device device)
      : site_(std::move(site)) {
    for (const MaskControl& control : options.controls) {
      controls_.emplace_back(static_cast<size_t>(control.draws));
      generators_.push_back(make_generator(
          derive_seed(options.seed, kControls + static_cast<uint64_t>(depth)), device));
    }
  }

  // `masked_output` resumes the model under a mask.
  template <typename Resume>
  void add(const RecordedBatch& item, const at::Tensor& z, const MaskExperimentOptions& options,
           const Resume& masked_output) {
    const auto score = [&](Tally& tally, const at::Tensor& mask) {
      tally.add({item.batch, item.recording.output(), masked_output(mask), mask}, options);
    };
    score(chosen_, z);
    for (size_t i = 0; i < controls_.size(); ++i) {
      const MaskControl& control = options.controls[i];
      for (Tally& draw : controls_[i]) {
        const at::Tensor mask = control.mask(z, item.batch, generators_[i]);
        check_shape(fmt::format("mask of the control '{}'", control.name), mask, z.sizes());
        score(draw, mask);
      }
    }
  }

  DepthScore score(const OutputScorer& scorer, double epsilon) const {
    DepthScore result{site_, chosen_.score(scorer, epsilon), {}};
    for (const auto& draws : controls_) {
      std::vector<MaskScore> scores;
      for (const Tally& draw : draws) scores.push_back(draw.score(scorer, epsilon));
      result.controls.push_back(mean_of(scores));
    }
    return result;
  }

 private:
  std::string site_;
  Tally chosen_;
  std::vector<std::vector<Tally>> controls_;
  std::vector<at::Generator> generators_;
};

// One gating at all of its depths.
class GatingTally {
 public:
  GatingTally(const Gating& gating, const MaskExperimentOptions& options, c10::Device device)
      : gating_(gating) {
    for (const std::string& site : explainer().sites()) {
      depths_.emplace_back(site, static_cast<int64_t>(depths_.size()), options, device);
    }
  }

  void add(const FrozenModel& model, const RecordedBatch& item,
           const MaskExperimentOptions& options) {
    const auto gates =
        explainer().gates(item.recording, item.batch, iota(explainer().depths()), Draw::hard);
    for (size_t i = 0; i < depths_.size(); ++i) {
      depths_[i].add(item, gates[i].z, options, [&](const at::Tensor& z) {
        return explainer().masked_output(model, item.recording, static_cast<int64_t>(i), z);
      });
    }
  }

  GatingScore score(const OutputScorer& scorer) const {
    GatingScore score{gating_.name, explainer().options().masking, gating_.epsilon, {}};
    for (const DepthTally& depth : depths_) {
      score.depths.push_back(depth.score(scorer, gating_.epsilon));
    }
    return score;
  }

 private:
  const Explainer& explainer() const { return gating_.method.explainer(); }

  const Gating& gating_;
  std::vector<DepthTally> depths_;
};

void validate(const std::vector<Gating>& gatings) {
  require(!gatings.empty(), "gatings", "at least one", "none");
  std::set<std::string> names = {"original"};
  for (const Gating& gating : gatings) {
    require(!gating.name.empty() && names.insert(gating.name).second, "gatings",
            "each of a name of its own", fmt::format("'{}'", gating.name));
    require(gating.epsilon > 0, fmt::format("epsilon of '{}'", gating.name), "> 0", gating.epsilon);
  }
}

// The sites that some gating reads, in the model's order.
std::vector<std::string> sites_of(const FrozenModel& model, const std::vector<Gating>& gatings) {
  std::set<std::string> wanted;
  for (const Gating& gating : gatings) {
    const auto& sites = gating.method.explainer().sites();
    for (const std::string& site : sites) wanted.insert(model.site(site).name);
  }
  std::vector<std::string> names = model.site_names();
  std::erase_if(names, [&](const std::string& name) { return !wanted.contains(name); });
  return names;
}

}  // namespace

MaskControl control::random(int64_t draws) {
  return {"random",
          [](const at::Tensor& z, const Batch& batch, at::Generator generator) {
            return shuffled_mask(z, batch.mask, std::move(generator));
          },
          draws};
}

MaskControl control::uniform() {
  return {"uniform", [](const at::Tensor& z, const Batch& batch, const at::Generator&) {
            const at::Tensor share = kept(z, batch.mask).unsqueeze(1).expand_as(z);
            return share.masked_fill(batch.mask.logical_not(), 1.0);
          }};
}

void MaskExperimentOptions::validate() const {
  scorer.validate();
  require(divergence != nullptr, "divergence", "a function", "none");
  std::set<std::string> names;
  for (const MaskControl& control : controls) {
    require(!control.name.empty() && names.insert(control.name).second, "controls",
            "each of a name of its own", fmt::format("'{}'", control.name));
    require(control.mask != nullptr, "controls.mask", "a function", "none");
    require(control.draws >= 1, "controls.draws", ">= 1", control.draws);
  }
  require(batch_size >= 1, "batch_size", ">= 1", batch_size);
}

DepthScore GatingScore::summary() const {
  if (masking == Masking::input) return depths.back();
  std::vector<MaskScore> chosen;
  for (const DepthScore& depth : depths) chosen.push_back(depth.chosen);
  DepthScore mean{"mean", mean_of(chosen), {}};
  for (size_t i = 0; i < depths.front().controls.size(); ++i) {
    std::vector<MaskScore> scores;
    for (const DepthScore& depth : depths) scores.push_back(depth.controls[i]);
    mean.controls.push_back(mean_of(scores));
  }
  return mean;
}

Attribution attribute(const std::vector<Gating>& gatings, const Batch& batch) {
  require(!gatings.empty(), "gatings", "at least one", "none");
  std::vector<std::pair<std::string, Attribution>> named;
  for (const Gating& gating : gatings)
    named.emplace_back(gating.name, gating.method.attribute(batch));
  return side_by_side(named);
}

std::vector<Gating> refined_gatings(
    const Gating& first, const std::vector<double>& epsilons, const Dataset& training,
    const Dataset& validation, const std::function<TrainerOptions(double epsilon)>& trainer_of) {
  require(trainer_of != nullptr, "trainer_of", "a function", "none");
  std::vector<Gating> gatings = {first};
  for (const double epsilon : epsilons) {
    Gating next = gatings.back();
    next.epsilon = epsilon;
    TrainerOptions options = trainer_of(epsilon);
    options.recipe.warm_up = 0;
    options.steps = options.recipe.validate_every = std::max<int64_t>(options.steps / 2, 1);
    next.method.refine(training, validation, options);
    gatings.push_back(std::move(next));
  }
  return gatings;
}

const GatingScore& MaskExperiment::gating(const std::string& name) const {
  std::vector<std::string> names;
  for (const GatingScore& each : gatings) {
    if (each.name == name) return each;
    names.push_back(each.name);
  }
  throw ArgumentError("gating", "one that was scored", with_nearest(name, names));
}

double MaskExperiment::figure(const MaskScore& score, const std::string& name) const {
  std::vector<std::string> names;
  for (size_t i = 0; i < figures.size(); ++i) {
    if (figures[i].name == name) return score.figures.at(i);
    names.push_back(figures[i].name);
  }
  throw ArgumentError("figure", "one of the scorer's", with_nearest(name, names));
}

MaskExperiment score_masks(const FrozenModel& model, const Dataset& data,
                           const std::vector<Gating>& gatings,
                           const MaskExperimentOptions& options) {
  options.validate();
  validate(gatings);
  at::NoGradGuard no_grad;
  const auto began = std::chrono::steady_clock::now();
  const std::vector<std::string> sites = sites_of(model, gatings);
  Tally original;
  std::vector<GatingTally> tallies;
  for (const Gating& gating : gatings) tallies.emplace_back(gating, options, model.device());
  const auto batches = even_batches(by_length(data), options.batch_size);
  Progress progress{Progress::Phase::train, 0, static_cast<int64_t>(batches.size())};
  for (const auto& examples : batches) {
    const RecordedBatch item = recorded(model, data, examples, sites);
    const at::Tensor& output = item.recording.output();
    const at::Tensor all = at::ones(item.batch.mask.sizes(), output.options());
    original.add({item.batch, output, output, all}, options);
    for (GatingTally& tally : tallies) tally.add(model, item, options);
    ++progress.step;
    progress.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    if (options.progress && options.progress(progress) == Action::stop) {
      throw Cancelled("the scoring of masks was cancelled");
    }
  }
  MaskExperiment result{options.scorer.figures, {}, original.score(options.scorer, 0.0), {}};
  result.original.within_epsilon = 1;  // rounding may make D a little more than 0
  for (const MaskControl& control : options.controls) result.controls.push_back(control.name);
  for (const GatingTally& tally : tallies) result.gatings.push_back(tally.score(options.scorer));
  return result;
}

}  // namespace diffmask
