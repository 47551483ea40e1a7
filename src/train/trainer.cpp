#include "diffmask/train/trainer.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/optim/adam.h>
#include <torch/optim/rmsprop.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

// Streams of randomness that do not depend on how much another one draws.
enum TrainerStream : uint64_t { kCut, kOrder, kDepths, kGates, kDropout };

using Parameters = std::map<std::string, at::Tensor>;

Parameters named(const Explainer& explainer) {
  Parameters all;
  for (const auto& item : explainer.named_parameters()) all.emplace(item.key(), item.value());
  return all;
}

std::unique_ptr<torch::optim::Optimizer> make_optimiser(const TrainerOptions& options,
                                                        const Explainer& explainer) {
  using torch::optim::OptimizerParamGroup;
  const auto group = [&](std::vector<at::Tensor> parameters, double rate, bool centered) {
    std::unique_ptr<torch::optim::OptimizerOptions> settings;
    if (options.optimiser == TrainerOptions::Optimiser::adam) {
      settings = std::make_unique<torch::optim::AdamOptions>(
          torch::optim::AdamOptions(rate).betas({0.9, options.beta2}));
    } else {
      settings = std::make_unique<torch::optim::RMSpropOptions>(
          torch::optim::RMSpropOptions(rate).alpha(0.99).centered(centered));
    }
    return OptimizerParamGroup(std::move(parameters), std::move(settings));
  };
  std::vector<OptimizerParamGroup> groups = {
      group(explainer.gate_parameters(), options.gate_rate, true)};
  if (explainer.options().baseline.learned) {
    groups.push_back(group(explainer.baselines(), options.baseline_rate, false));
  }
  if (options.optimiser == TrainerOptions::Optimiser::adam) {
    return std::make_unique<torch::optim::Adam>(groups, torch::optim::AdamOptions());
  }
  return std::make_unique<torch::optim::RMSprop>(groups, torch::optim::RMSpropOptions());
}

// D of each row, checked: a user's functor may give anything.
at::Tensor checked_divergence(const Divergence& divergence, const at::Tensor& original,
                              const at::Tensor& masked, int64_t rows, const std::string& site) {
  const at::Tensor result = divergence(original, masked);
  check_shape("divergence(original, masked)", result, {rows});
  check_finite(fmt::format("divergence at '{}'", site), result);
  return result;
}

// One update of all parameters. Gradients are asked for by name, since backward() would also write
// into the frozen model's parameters.
void descend(torch::optim::Optimizer& optimiser, const at::Tensor& loss) {
  std::vector<at::Tensor> parameters;
  for (auto& group : optimiser.param_groups()) {
    parameters.insert(parameters.end(), group.params().begin(), group.params().end());
  }
  const auto gradients = torch::autograd::grad({loss}, parameters, {}, /*retain_graph=*/false,
                                               /*create_graph=*/false, /*allow_unused=*/true);
  for (size_t i = 0; i < parameters.size(); ++i) parameters[i].mutable_grad() = gradients[i];
  optimiser.step();
}

class Run {
 public:
  Run(const FrozenModel& model, Explainer& explainer, const Dataset& training,
      const Dataset& validation, const TrainerOptions& options,
      const std::vector<Callback>& callbacks)
      : model_(model),
        explainer_(explainer),
        options_(options),
        callbacks_(callbacks),
        order_(make_generator(derive_seed(options.seed, kOrder))),
        schedule_(make_generator(derive_seed(options.seed, kDepths))),
        draws_(make_generator(derive_seed(options.seed, kGates), model.device())),
        dropout_{options.dropout,
                 make_generator(derive_seed(options.seed, kDropout), model.device())},
        training_(model, training, explainer.sites(), options.batches,
                  make_generator(derive_seed(options.seed, kCut))),
        validation_(model, validation, explainer.sites(), options.batches),
        multipliers_(shares(explainer.depths(), options), options.multiplier),
        optimiser_(make_optimiser(options, explainer)) {
    const int64_t controlled = explainer.options().per_sample ? training.size() : 0;
    controls_.assign(explainer.sites().size(), ControlVariate(controlled, options.control));
    if (options.lookahead) lookahead_.emplace(explainer.parameters(), *options.lookahead);
    summary_.epsilon = options.epsilon;
    for (const std::string& site : explainer.sites()) summary_.depths.push_back({site});
  }

  Summary operator()() {
    warm_up();
    for (int64_t step = 1; step <= options_.steps && !summary_.interrupted; ++step) {
      const auto item = training_.next(order_);
      StepRecord record{step, {}};
      at::Tensor loss;
      const auto depths = draw_depths(step);
      const bool expected = options_.expected_every > 0 && step % options_.expected_every == 0;
      const auto gates = explainer_.gates(item->recording, item->batch, depths,
                                          expected ? Draw::mean : Draw::sample, draws_, dropout_);
      for (size_t i = 0; i < depths.size(); ++i) {
        loss = add(loss, depth_lagrangian(*item, depths[i], gates[i], record));
      }
      set_rates(step);
      descend(*optimiser_, loss);
      explainer_.project();
      if (lookahead_) lookahead_->step();
      ascend(record);
      finish(std::move(record));
    }
    restore_best();
    summary_.seconds = seconds();
    return std::move(summary_);
  }

 private:
  // eps of each depth in training.
  static std::vector<double> shares(int64_t depths, const TrainerOptions& options) {
    std::vector<double> epsilons(static_cast<size_t>(depths), options.epsilon);
    for (int64_t depth = 0; depth + 1 < depths; ++depth) {
      const double above = static_cast<double>(depth) / static_cast<double>(depths - 1);
      epsilons[static_cast<size_t>(depth)] *=
          options.first_share + (1 - options.first_share) * above;
    }
    return epsilons;
  }

  static at::Tensor add(const at::Tensor& sum, const at::Tensor& term) {
    return sum.defined() ? sum + term : term;
  }

  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  }

  // Minimises D over the baselines alone, under masks that keep each position with a probability
  // that is itself uniform on (0, 1): no keep rate is a surprise later.
  void warm_up() {
    if (options_.warm_up == 0 || !explainer_.options().baseline.learned) return;
    torch::optim::Adam optimiser(explainer_.baselines(),
                                 torch::optim::AdamOptions(options_.warm_up_rate));
    for (int64_t step = 1; step <= options_.warm_up && !summary_.interrupted; ++step) {
      const auto item = training_.next(order_);
      const at::Tensor& mask = item->batch.mask;
      at::Tensor loss;
      for (int64_t depth = 0; depth < explainer_.depths(); ++depth) {
        if (depth > 0 && explainer_.masked_site(depth) == explainer_.masked_site(0)) break;
        const auto real = item->recording.state(explainer_.masked_site(depth)).options();
        const at::Tensor rate = at::rand({mask.size(0), 1}, draws_, real);
        const at::Tensor z = at::rand(mask.sizes(), draws_, real).lt(rate).to(real.dtype());
        loss = add(loss, divergence(*item, depth, z.masked_fill(mask.logical_not(), 1.0)).mean());
      }
      descend(optimiser, loss);
      notify({Progress::Phase::warm_up, step, options_.warm_up, seconds()});
    }
  }

  int64_t draw_depth(int64_t depths) {
    return at::randint(depths, {1}, schedule_, at::TensorOptions(at::kLong)).item<int64_t>();
  }

  std::vector<int64_t> draw_depths(int64_t step) {
    const int64_t depths = explainer_.depths();
    int64_t first = 0;
    switch (options_.schedule) {
      case TrainerOptions::Schedule::all:
        break;
      case TrainerOptions::Schedule::random:
        return {draw_depth(depths)};
      case TrainerOptions::Schedule::deepest_and_random:
        if (depths == 1) break;
        return {draw_depth(depths - 1), depths - 1};
      case TrainerOptions::Schedule::bottom_up: {
        const int64_t newest = std::min((step - 1) * 2 * depths / options_.steps, depths - 1);
        if (newest == 0) return {0};
        return {draw_depth(newest), newest};
      }
      case TrainerOptions::Schedule::top_down:
        first = depths - 1 - (step - 1) * depths / options_.steps;
        break;
    }
    std::vector<int64_t> chosen(static_cast<size_t>(depths - first));
    std::iota(chosen.begin(), chosen.end(), first);
    return chosen;
  }

  // R_l + lambda_l (D_l - eps) of one depth under sampled gates.
  at::Tensor depth_lagrangian(const RecordedBatches::Item& item, int64_t depth, const Gates& gates,
                              StepRecord& record) {
    const at::Tensor& mask = item.batch.mask;
    const at::Tensor divergences = divergence(item, depth, gates.z);
    record.depths.push_back({depth, divergences.mean().item<double>(),
                             masked_mean(gates.log_keep.detach().exp(), mask).item<double>()});
    const double multiplier = multipliers_.multiplier(depth), epsilon = multipliers_.epsilon(depth);
    const at::Tensor loss = lagrangian(penalty(gates.log_keep, mask, options_.penalty), divergences,
                                       multiplier, epsilon);
    if (!gates.log_prob.defined()) return loss;
    return loss + reinforce(item.batch.examples, divergences.detach() - epsilon, multiplier,
                            gates.log_prob, controls_[static_cast<size_t>(depth)]);
  }

  // What lambda (D - eps) lacks where z has no gradient: the estimate by REINFORCE.
  static at::Tensor reinforce(const at::Tensor& examples, const at::Tensor& violation,
                              double multiplier, const at::Tensor& log_prob,
                              ControlVariate& control) {
    const at::Tensor expected = control.values(examples, violation);
    control.update(examples, violation);
    return score_function(multiplier * violation, multiplier * expected, log_prob);
  }

  at::Tensor divergence(const RecordedBatches::Item& item, int64_t depth,
                        const at::Tensor& z) const {
    const at::Tensor masked = explainer_.masked_output(model_, item.recording, depth, z);
    return checked_divergence(options_.divergence, item.recording.output(), masked,
                              item.batch.size(), explainer_.sites()[depth]);
  }

  void set_rates(int64_t step) {
    const double done = static_cast<double>(step - 1) / static_cast<double>(options_.steps);
    const double share = 1.0 - (1.0 - options_.final_rate) * done;
    optimiser_->param_groups()[0].options().set_lr(share * options_.gate_rate);
    if (optimiser_->param_groups().size() > 1) {
      optimiser_->param_groups()[1].options().set_lr(share * options_.baseline_rate);
    }
  }

  void ascend(StepRecord& record) {
    for (DepthStep& depth : record.depths) {
      multipliers_.update(depth.depth, depth.divergence);
      depth.multiplier = multipliers_.multiplier(depth.depth);
    }
  }

  void finish(StepRecord record) {
    summary_.steps = record.step;
    summary_.history.push_back(std::move(record));
    Progress progress{Progress::Phase::train, summary_.steps, options_.steps, 0.0,
                      &summary_.history.back()};
    std::vector<DepthEvaluation> evaluation;
    if (summary_.steps % options_.validate_every == 0 || summary_.steps == options_.steps) {
      evaluation = validate();
      progress.validation = &evaluation;
    }
    progress.seconds = seconds();
    notify(progress);
    // What there is when a run is stopped has been validated too.
    if (summary_.interrupted && evaluation.empty()) validate();
  }

  void notify(const Progress& progress) {
    for (const Callback& callback : callbacks_) {
      if (callback(progress) == Action::stop) summary_.interrupted = true;
    }
  }

  std::vector<DepthEvaluation> validate() {
    const auto now =
        evaluate(model_, explainer_, validation_, options_.divergence, options_.epsilon);
    // Input gating shares its gates and baseline over depths: they are one candidate.
    const bool joint = explainer_.options().masking == Masking::input;
    std::pair<double, double> joint_score{0.0, 0.0};
    for (const DepthEvaluation& depth : now) {
      joint_score = {std::max(joint_score.first, score(depth).first),
                     joint_score.second + score(depth).second};
    }
    for (size_t depth = 0; depth < now.size(); ++depth) {
      DepthSummary& best = summary_.depths[depth];
      const auto candidate = joint ? joint_score : score(now[depth]);
      best_score_.resize(now.size(), {INFINITY, INFINITY});
      best.multiplier = multipliers_.multiplier(static_cast<int64_t>(depth));
      if (best.step > 0 && candidate >= best_score_[depth]) continue;
      best_score_[depth] = candidate;
      best.validation = now[depth];
      best.step = summary_.steps;
      best.feasible = score(now[depth]).first == 0.0;
      const auto own = explainer_.own_parameters(static_cast<int64_t>(depth));
      for (const auto& [name, parameter] : named(explainer_)) {
        if (joint || std::find(own.begin(), own.end(), name) != own.end()) {
          best_parameters_[name] = parameter.detach().clone();
        }
      }
    }
    return now;
  }

  // Smaller is better: first the violation, then what is kept.
  std::pair<double, double> score(const DepthEvaluation& depth) const {
    using Criterion = TrainerOptions::Criterion;
    double divergence = 0.0, keep = 0.0;
    if (options_.criterion != Criterion::hard) {
      divergence = depth.divergence;
      keep += depth.keep;
    }
    if (options_.criterion != Criterion::expected) {
      divergence = std::max(divergence, depth.hard_divergence);
      keep += depth.hard_keep;
    }
    return {std::max(divergence - options_.epsilon, 0.0), keep};
  }

  void restore_best() {
    at::NoGradGuard no_grad;
    for (auto& [name, parameter] : named(explainer_)) {
      if (best_parameters_.contains(name)) at::Tensor(parameter).copy_(best_parameters_.at(name));
      at::Tensor(parameter).mutable_grad() = at::Tensor();
    }
  }

  const FrozenModel& model_;
  Explainer& explainer_;
  const TrainerOptions& options_;
  const std::vector<Callback>& callbacks_;
  at::Generator order_, schedule_, draws_;
  Dropout dropout_;
  RecordedBatches training_, validation_;
  DualAscent multipliers_;
  std::unique_ptr<torch::optim::Optimizer> optimiser_;
  std::optional<Lookahead> lookahead_;
  std::vector<ControlVariate> controls_;
  std::vector<std::pair<double, double>> best_score_;
  Parameters best_parameters_;
  Summary summary_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace

TrainerOptions TrainerOptions::reference() {
  TrainerOptions options;
  options.epsilon = 0.05;
  options.steps = 7100;
  options.schedule = Schedule::random;
  options.batches.batch_size = 128;
  options.warm_up = 0;
  options.optimiser = Optimiser::rmsprop;
  options.gate_rate = 3e-4;
  options.baseline_rate = 1e-3;
  options.lookahead = LookaheadOptions{};
  options.penalty = {PenaltyOptions::Form::log_expected_l0, /*scale=*/1.0};
  options.multiplier.initial = 1.0;
  options.multiplier.rate = 0.3;
  return options;
}

void TrainerOptions::validate() const {
  const auto positive = [](const char* name, double value) {
    require(std::isfinite(value) && value > 0, name, "> 0", value);
  };
  positive("epsilon", epsilon);
  positive("warm_up_rate", warm_up_rate);
  positive("gate_rate", gate_rate);
  positive("baseline_rate", baseline_rate);
  require(divergence != nullptr, "divergence", "a function", "none");
  require(steps >= 1, "steps", ">= 1", steps);
  require(expected_every >= 0, "expected_every", ">= 0", expected_every);
  require(dropout >= 0 && dropout < 1, "dropout", "in [0, 1)", dropout);
  require(first_share > 0 && first_share <= 1, "first_share", "in (0, 1]", first_share);
  require(warm_up >= 0, "warm_up", ">= 0", warm_up);
  require(beta2 > 0 && beta2 < 1, "beta2", "in (0, 1)", beta2);
  require(final_rate > 0 && final_rate <= 1, "final_rate", "in (0, 1]", final_rate);
  require(validate_every >= 1, "validate_every", ">= 1", validate_every);
  batches.validate();
  penalty.validate();
  multiplier.validate();
  control.validate();
  if (lookahead) lookahead->validate();
}

Summary train(const FrozenModel& model, Explainer& explainer, const Dataset& training,
              const Dataset& validation, const TrainerOptions& options,
              const std::vector<Callback>& callbacks) {
  options.validate();
  return Run(model, explainer, training, validation, options, callbacks)();
}

std::vector<DepthEvaluation> evaluate(const FrozenModel& model, const Explainer& explainer,
                                      RecordedBatches& data, const Divergence& divergence,
                                      double epsilon) {
  at::NoGradGuard no_grad;
  const std::vector<int64_t> depths = iota(explainer.depths());
  std::vector<DepthEvaluation> sums(depths.size(), {0, 0, 0, 0, 0});
  int64_t examples = 0;
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto item = data.at(i);
    const Batch& batch = item->batch;
    const auto size = static_cast<double>(batch.size());
    const auto expected = explainer.gates(item->recording, batch, depths, Draw::mean);
    for (const int64_t depth : depths) {
      const Gates& gates = expected[static_cast<size_t>(depth)];
      const at::Tensor keep = gates.log_keep.exp();
      const at::Tensor hard = keep.gt(0.5).to(keep.scalar_type());
      const auto rows = [&](const at::Tensor& z) {
        return checked_divergence(divergence, item->recording.output(),
                                  explainer.masked_output(model, item->recording, depth, z),
                                  batch.size(), explainer.sites()[static_cast<size_t>(depth)]);
      };
      const at::Tensor hard_rows = rows(hard);
      DepthEvaluation& sum = sums[static_cast<size_t>(depth)];
      sum.divergence += rows(gates.z).sum().item<double>();
      sum.hard_divergence += hard_rows.sum().item<double>();
      sum.keep += size * masked_mean(keep, batch.mask).item<double>();
      sum.hard_keep += size * masked_mean(hard, batch.mask).item<double>();
      sum.within += hard_rows.le(epsilon).sum().item<double>();
    }
    examples += batch.size();
  }
  for (DepthEvaluation& sum : sums) {
    for (double* value :
         {&sum.divergence, &sum.hard_divergence, &sum.keep, &sum.hard_keep, &sum.within}) {
      *value /= static_cast<double>(examples);
    }
  }
  return sums;
}

}  // namespace diffmask
