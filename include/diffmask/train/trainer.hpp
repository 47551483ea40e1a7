#pragma once
/// \file
/// The main loop of DiffMask (De Cao et al. 2020, section 3): at every depth l
///
///     min over phi, b   max over lambda_l >= 0    R_l + lambda_l (D_l - eps)
///
/// with R_l the penalty on keep probabilities and D_l the divergence of the output when depth l is
/// masked by sampled gates. A step takes one recording and one backward pass for all its depths:
///
///     1. record the batch (or take the recording kept from an earlier epoch)
///     2. for each depth of the step: sample gates, mask, resume, add up the Lagrangian
///     3. probes and baselines descend its gradient; each lambda_l ascends D_l - eps
///     4. now and then: calibrate thresholds if the recipe says so, validate all depths without
///        randomness, keep the best parameters
///
/// Before, for `warm_up` steps, baselines alone are trained under random masks: that brings them to
/// the neutral region of the state space, where the gates' training starts well.
///
/// One recording and one backward pass serve probes, baselines and multipliers: at a saddle point
/// both players need the same divergence.

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/mask/explainer.hpp"
#include "diffmask/objective/divergence.hpp"
#include "diffmask/objective/lagrangian.hpp"
#include "diffmask/train/calibrate.hpp"
#include "diffmask/train/callback.hpp"
#include "diffmask/train/evaluate.hpp"
#include "diffmask/train/recipe.hpp"
#include "diffmask/train/recorded_batches.hpp"
#include "diffmask/train/summary.hpp"

namespace diffmask {

/// What a user sets. Everything lies and runs on the model's device.
struct TrainerOptions {
  double epsilon = 0.1;  ///< eps > 0, in the divergence's unit (paper: 0.05 toy, 0.1 SST, 1 SQuAD)
  int64_t steps = 1500;  ///< >= 1
  BatchOptions batches = {};
  Divergence divergence = divergence::categorical;
  uint64_t seed = 0;                     ///< of everything that is drawn
  std::vector<Callback> callbacks = {};  ///< called after each step, in order
  Recipe recipe = {};                    ///< how it is trained

  void validate() const {
    require(std::isfinite(epsilon) && epsilon > 0, "epsilon", "> 0", epsilon);
    require(divergence != nullptr, "divergence", "a function", "none");
    require(steps >= 1, "steps", ">= 1", steps);
    batches.validate();
    recipe.validate();
  }
};

/// One run of the main loop. (`train` is how to call it.)
class TrainingRun {
 public:
  TrainingRun(const FrozenModel& model, Explainer& explainer, const Dataset& training,
              const Dataset& validation, const TrainerOptions& options)
      : model_(model),
        explainer_(explainer),
        options_(options),
        recipe_(options.recipe),
        order_(make_generator(derive_seed(options.seed, kOrder))),
        schedule_(make_generator(derive_seed(options.seed, kDepths))),
        draws_(make_generator(derive_seed(options.seed, kGates), model.device())),
        dropout_{recipe_.dropout,
                 make_generator(derive_seed(options.seed, kDropout), model.device())},
        training_(model, training, explainer.sites(), options.batches,
                  make_generator(derive_seed(options.seed, kCut))),
        validation_(model, validation, explainer.sites(), options.batches),
        multipliers_(epsilons(explainer.depths(), options), recipe_.multiplier),
        descent_(recipe_.optimiser, groups(explainer, recipe_)) {
    if (recipe_.calibration) check_shifts(explainer);
    const int64_t controlled = explainer.options().probe.per_sample ? training.size() : 0;
    controls_.assign(explainer.sites().size(), ControlVariate(controlled, recipe_.control));
    if (recipe_.lookahead) lookahead_.emplace(explainer.parameters(), *recipe_.lookahead);
    best_scores_.resize(explainer.sites().size());
    summary_.epsilon = options.epsilon;
    for (const std::string& site : explainer.sites()) summary_.depths.push_back({site});
  }

  Summary operator()() {
    warm_up();
    for (int64_t step = 1; step <= options_.steps && !summary_.interrupted; ++step) {
      StepRecord record{step, {}};
      const at::Tensor loss = lagrangian_of(*training_.next(order_), record);
      descend(loss, step);
      ascend(record);
      finish(std::move(record));
    }
    best_.restore();
    descent_.clear();
    summary_.seconds = seconds();
    return std::move(summary_);
  }

 private:
  // Streams of randomness that do not depend on how much another one draws.
  enum Stream : uint64_t { kCut, kOrder, kDepths, kGates, kDropout };

  // eps of each depth in training.
  static std::vector<double> epsilons(int64_t depths, const TrainerOptions& options) {
    std::vector<double> all(static_cast<size_t>(depths), options.recipe.margin * options.epsilon);
    const double first = options.recipe.first_share;
    for (int64_t depth = 0; depth + 1 < depths; ++depth) {
      const double above = static_cast<double>(depth) / static_cast<double>(depths - 1);
      all[static_cast<size_t>(depth)] *= first + (1 - first) * above;
    }
    return all;
  }

  static std::vector<ParameterGroup> groups(const Explainer& explainer, const Recipe& recipe) {
    std::vector<ParameterGroup> all = {{"gates", explainer.gate_parameters(), recipe.gate_rate}};
    if (explainer.options().baseline.learned) {
      all.push_back({"baselines", explainer.baselines(), recipe.baseline_rate});
    }
    return all;
  }

  static at::Tensor add(const at::Tensor& sum, const at::Tensor& term) {
    return sum.defined() ? sum + term : term;
  }

  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  }

  at::Tensor divergence(const RecordedBatch& item, int64_t depth, const at::Tensor& z) const {
    return masked_divergence(model_, explainer_, item, depth, z, options_.divergence);
  }

  // Minimises D over the baselines alone, under masks that keep each position with a probability
  // that is itself uniform on (0, 1): no keep rate is a surprise later.
  void warm_up() {
    if (recipe_.warm_up == 0 || !explainer_.options().baseline.learned) return;
    Descent descent(optimiser::adam(),
                    {{"baselines", explainer_.baselines(), recipe_.warm_up_rate}});
    for (int64_t step = 1; step <= recipe_.warm_up && !summary_.interrupted; ++step) {
      const auto item = training_.next(order_);
      const at::Tensor& mask = item->batch.mask;
      at::Tensor loss;
      for (int64_t depth = 0; depth < explainer_.depths(); ++depth) {
        if (depth > 0 && explainer_.masked_site(depth) == explainer_.masked_site(0)) break;
        const auto real = item->recording.state(explainer_.masked_site(depth)).options();
        const at::Tensor rate = drawn_uniform({mask.size(0), 1}, draws_, real);
        const at::Tensor z = drawn_uniform(mask.sizes(), draws_, real).lt(rate).to(real.dtype());
        loss = add(loss, divergence(*item, depth, z.masked_fill(mask.logical_not(), 1.0)).mean());
      }
      descent.step(loss);
      notify({Progress::Phase::warm_up, step, recipe_.warm_up, seconds()});
    }
  }

  Draw draw_of(int64_t step) const {
    const int64_t every = recipe_.expected_every;
    return every > 0 && step % every == 0 ? Draw::mean : Draw::sample;
  }

  // The sum over the step's depths of R_l + lambda_l (D_l - eps).
  at::Tensor lagrangian_of(const RecordedBatch& item, StepRecord& record) {
    const auto depths =
        recipe_.schedule({record.step, options_.steps, explainer_.depths()}, schedule_);
    const Draw draw = draw_of(record.step);
    const auto gates = explainer_.gates(item.recording, item.batch, depths, draw, draws_, dropout_);
    at::Tensor loss;
    for (size_t i = 0; i < depths.size(); ++i) {
      loss = add(loss, depth_lagrangian(item, depths[i], gates[i], record));
    }
    return loss;
  }

  // The penalty of a step: the first, the final, or between them.
  at::Tensor penalty_of(const Gates& gates, const at::Tensor& mask, int64_t step) const {
    const auto cost = [&](const Penalty& penalty) {
      at::Tensor result = penalty(gates.log_keep, mask);
      check_shape("penalty(log_keep, mask)", result, {});
      return result;
    };
    if (!recipe_.final_penalty) return cost(recipe_.penalty);
    const double done = static_cast<double>(step - 1) / static_cast<double>(options_.steps);
    const double share = std::clamp(3 * done - 1, 0.0, 1.0);
    return (1 - share) * cost(recipe_.penalty) + share * cost(recipe_.final_penalty);
  }

  at::Tensor depth_lagrangian(const RecordedBatch& item, int64_t depth, const Gates& gates,
                              StepRecord& record) {
    const at::Tensor& mask = item.batch.mask;
    const at::Tensor divergences = divergence(item, depth, gates.z);
    record.depths.push_back({depth, divergences.mean().item<double>(),
                             masked_mean(gates.log_keep.detach().exp(), mask).item<double>()});
    const double multiplier = multipliers_.multiplier(depth), epsilon = multipliers_.epsilon(depth);
    const at::Tensor penalty = penalty_of(gates, mask, record.step);
    const at::Tensor cost = recipe_.log_divergence ? divergences.log1p() : divergences;
    const double allowed = recipe_.log_divergence ? std::log1p(epsilon) : epsilon;
    const at::Tensor loss = lagrangian(penalty, cost, multiplier, allowed);
    if (!gates.log_prob.defined()) return loss;
    // What lambda (D - eps) lacks where z has no gradient: the estimate by REINFORCE.
    ControlVariate& control = controls_[static_cast<size_t>(depth)];
    const at::Tensor violation = cost.detach() - allowed;
    const at::Tensor expected = control.values(item.batch.examples, violation);
    control.update(item.batch.examples, violation);
    return loss + score_function(multiplier * violation, multiplier * expected, gates.log_prob);
  }

  void descend(const at::Tensor& loss, int64_t step) {
    const double done = static_cast<double>(step - 1) / static_cast<double>(options_.steps);
    descent_.step(loss, 1.0 - (1.0 - recipe_.final_rate) * done);
    explainer_.project();
    if (lookahead_) lookahead_->step();
  }

  void ascend(StepRecord& record) {
    const bool moves = !recipe_.multipliers_by_samples || draw_of(record.step) == Draw::sample;
    for (DepthStep& depth : record.depths) {
      if (moves) multipliers_.update(depth.depth, depth.divergence);
      depth.multiplier = multipliers_.multiplier(depth.depth);
    }
  }

  void finish(StepRecord record) {
    summary_.steps = record.step;
    summary_.history.push_back(std::move(record));
    Progress progress{Progress::Phase::train, summary_.steps, options_.steps, 0.0,
                      &summary_.history.back()};
    std::vector<DepthEvaluation> evaluation;
    if (summary_.steps % recipe_.validate_every == 0 || summary_.steps == options_.steps) {
      evaluation = validate();
      progress.validation = &evaluation;
    }
    progress.seconds = seconds();
    notify(progress);
    // What there is when a run is stopped has been validated too.
    if (summary_.interrupted && evaluation.empty()) validate();
  }

  void notify(const Progress& progress) {
    for (const Callback& callback : options_.callbacks) {
      if (callback(progress) == Action::stop) summary_.interrupted = true;
    }
  }

  std::vector<DepthEvaluation> validate() {
    BestParameters trained;
    std::vector<double> shifts(summary_.depths.size(), 0.0);
    if (recipe_.calibration) {
      trained.keep(explainer_.gate_parameters());
      shifts = calibrate(model_, explainer_, validation_, options_.divergence, options_.epsilon,
                         *recipe_.calibration);
    }
    const auto now =
        evaluate(model_, explainer_, validation_, options_.divergence, options_.epsilon);
    const double selected =
        recipe_.calibration ? options_.epsilon : (1 + recipe_.margin) / 2 * options_.epsilon;
    std::vector<Score> scores;
    for (const DepthEvaluation& depth : now) {
      scores.push_back(Score::of(depth, recipe_.selection, selected));
    }
    // Input gating shares its gates and baseline over depths: they are one candidate.
    const bool shared = explainer_.options().masking == Masking::input;
    const Score joint = Score::joint(scores);
    for (size_t depth = 0; depth < now.size(); ++depth) {
      const Selected selection{now[depth], shifts[depth],
                               Score::of(now[depth], recipe_.selection, options_.epsilon)};
      select(static_cast<int64_t>(depth), selection, shared ? joint : scores[depth]);
    }
    trained.restore();
    return now;
  }

  // A depth as it might be kept.
  struct Selected {
    const DepthEvaluation& evaluation;
    double shift;
    Score score;  // against eps itself
  };

  // Keeps a depth's parameters where they are the best so far.
  void select(int64_t depth, const Selected& now, const Score& candidate) {
    DepthSummary& best = summary_.depths[static_cast<size_t>(depth)];
    best.multiplier = multipliers_.multiplier(depth);
    Score& best_score = best_scores_[static_cast<size_t>(depth)];
    if (best.step > 0 && candidate >= best_score) return;
    best_score = candidate;
    best.validation = now.evaluation;
    best.step = summary_.steps;
    best.shift = now.shift;
    best.feasible = now.score.violation == 0.0;
    best_.keep(explainer_.parameters_of(depth));
  }

  const FrozenModel& model_;
  Explainer& explainer_;
  const TrainerOptions& options_;
  const Recipe& recipe_;
  at::Generator order_, schedule_, draws_;
  Dropout dropout_;
  RecordedBatches training_, validation_;
  DualAscent multipliers_;
  Descent descent_;
  std::optional<Lookahead> lookahead_;
  std::vector<ControlVariate> controls_;
  std::vector<Score> best_scores_;
  BestParameters best_;
  Summary summary_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

/// Trains the explainer; it ends with the best parameters found: for each depth (input gating: for
/// all depths together) those that violate D <= eps least on the validation data, among equals
/// those that keep least. Throws Error when a divergence is not finite. The model is not changed.
inline Summary train(const FrozenModel& model, Explainer& explainer, const Dataset& training,
                     const Dataset& validation, const TrainerOptions& options) {
  options.validate();
  return TrainingRun(model, explainer, training, validation, options)();
}

}  // namespace diffmask
