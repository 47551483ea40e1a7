// Every attribution method of the library, as it is run on the tasks with known answers: a table
// with an entry a method, which examples/tasks.cpp and the tests share.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/attribution/gradient/integrated_gradients.hpp"
#include "diffmask/attribution/learned/gnn_explainer.hpp"
#include "diffmask/attribution/learned/infomask.hpp"
#include "diffmask/attribution/learned/information_bottleneck.hpp"
#include "diffmask/attribution/learned/noise_tolerance.hpp"
#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/known_answer.hpp"
#include "diffmask/zoo/tasks/task_model.hpp"

/// A task's model, and what is explained of it.
struct TaskRun {
  diffmask::TaskModel task;
  diffmask::TaskData fitting;    ///< for methods that are fitted
  diffmask::TaskData explained;  ///< examples that have an answer
  uint64_t seed = 0;
  int64_t steps = 600;  ///< of a fit
  double epsilon =
      0.05;  ///< nats that an output may move: of DiffMask's constraint, and of searches

  diffmask::Batch batch() const {
    return explained.data->batch(diffmask::iota(explained.data->size()));
  }

  /// Of methods that explain the tokens or edges: what is taken away becomes a blank.
  diffmask::AttributionOptions options() const {
    return {.sites = {task.site},
            .target = task.target,
            .fill = task.fill(),
            .passes = {.max_batch = 256}};
  }

  /// Searches keep what DiffMask has to keep: the output within epsilon, not merely its class.
  diffmask::Criterion criterion() const {
    return [run = *this](const at::Tensor& output, const at::Tensor& original) {
      return run.task.divergence(original, output).le(run.epsilon);
    };
  }

  diffmask::TrainerOptions trainer() const {
    diffmask::TrainerOptions options;
    options.epsilon = epsilon;
    options.divergence = task.divergence;
    options.steps = steps;
    options.warm_up = steps / 4;
    options.final_rate = 0.2;
    options.batches.batch_size = 128;
    options.validate_every = std::max<int64_t>(steps / 4, 1);
    options.seed = seed;
    return options;
  }
};

inline TaskRun make_task_run(const diffmask::Task& task, uint64_t seed, int64_t size) {
  const at::Generator generator = diffmask::make_generator(diffmask::derive_seed(seed, 200));
  TaskRun run{diffmask::train_task_model(task, seed)};
  run.fitting = task.make(4000, generator);
  run.explained = task.make(size, generator).answered();
  run.seed = seed;
  return run;
}

struct TaskMethod {
  std::string name;
  /// Attributions of the examples at one site or more, the first of which is the tokens' or edges'.
  std::function<diffmask::Attribution(const TaskRun&)> explain;
  std::string only = {};  ///< the one task that it is for; none: all

  bool fits(const std::string& task) const { return only.empty() || only == task; }
};

/// A method that needs a model and options alone.
template <typename Method, typename... Own>
TaskMethod plain_method(std::string name, Own... own) {
  return {std::move(name), [own...](const TaskRun& run) {
            return Method(run.task.model, run.options(), own...).attribute(run.batch());
          }};
}

inline diffmask::Attribution fit_diffmask(const TaskRun& run, diffmask::Masking masking) {
  diffmask::ExplainerOptions explainer = run.task.explainer;
  explainer.masking = masking;
  explainer.probe.initial_bias = 4.0;
  diffmask::DiffMask method(run.task.model, explainer);
  method.fit(*run.fitting.data, run.trainer());
  return method.attribute(run.batch());
}

/// A free logit for every position, with the blank in place of a learned baseline: as erasure sees
/// it. Gates of 0 or 1 are trained by REINFORCE.
inline diffmask::Attribution fit_per_sample(const TaskRun& run, diffmask::GateKind kind) {
  diffmask::ExplainerOptions explainer{
      .sites = {run.task.site}, .per_sample = true, .gate_kind = kind};
  explainer.baseline = {.start = diffmask::BaselineOptions::Start::given,
                        .vectors = {run.task.blank},
                        .learned = false};
  diffmask::TrainerOptions trainer = run.trainer();
  trainer.batches.batch_size = run.explained.data->size();
  trainer.gate_rate = 0.3;
  diffmask::DiffMask method(run.task.model, explainer);
  method.fit(*run.explained.data, trainer);
  return method.attribute(run.batch());
}

/// What the learned methods have in common. All edges' factors are 1, of which no noise can be
/// learned: theirs is as large as they are.
template <typename Own>
Own learned_options(const TaskRun& run) {
  Own own;
  own.divergence = run.task.divergence;
  if constexpr (requires { own.floor; }) own.floor = run.task.site == "edge" ? 1.0 : 0.0;
  if constexpr (requires { own.steps; }) own.steps = std::max<int64_t>(run.steps / 6, 1);
  if constexpr (requires { own.draws; }) own.draws = 2;
  if constexpr (requires { own.seed; }) own.seed = run.seed;
  return own;
}

/// A method with a probe, which is trained once for all examples.
template <typename Method, typename Own>
TaskMethod amortised_method(std::string name) {
  return {std::move(name), [](const TaskRun& run) {
            Method method(run.task.model, run.options(), learned_options<Own>(run));
            method.fit(*run.fitting.data,
                       {.steps = run.steps, .batches = {.batch_size = 128}, .seed = run.seed});
            return method.attribute(run.batch());
          }};
}

inline const std::vector<TaskMethod>& task_methods() {
  namespace dm = diffmask;
  static const std::vector<TaskMethod> all = {
      plain_method<dm::Uniform>("uniform"),
      {"random",
       [](const TaskRun& run) {
         const auto generator = dm::make_generator(dm::derive_seed(run.seed, 201));
         return dm::Random(run.task.model, generator, run.options()).attribute(run.batch());
       }},
      plain_method<dm::Gradient>("gradient"),
      plain_method<dm::GradientTimesInput>("gradient x input"),
      plain_method<dm::IntegratedGradients>("integrated gradients"),
      plain_method<dm::DeepLift>("DeepLIFT"),
      plain_method<dm::Lrp>("LRP"),
      plain_method<dm::LeaveOneOut>("leave-one-out"),
      // All sets of 10 tokens, the most there are; of edges, of which there are more, those of one
      // and some of two.
      {"exact search",
       [](const TaskRun& run) {
         return dm::ExactSearch(run.task.model, run.options(),
                                {.criterion = run.criterion(), .max_passes = 1024})
             .attribute(run.batch());
       }},
      // Of many edges only those that cost least by first order are tried.
      {"beam search",
       [](const TaskRun& run) {
         using Rank = dm::BeamSearchOptions::Rank;
         const bool many = run.explained.data->longest() > 20;
         return dm::BeamSearch(
                    run.task.model, run.options(),
                    {.criterion = run.criterion(), .rank = many ? Rank::gradient : Rank::erasure})
             .attribute(run.batch());
       }},
      {"random search",
       [](const TaskRun& run) {
         const auto generator = dm::make_generator(dm::derive_seed(run.seed, 202));
         return dm::RandomSearch(run.task.model, generator, run.options(), {.max_passes = 100})
             .attribute(run.batch());
       }},
      {"bottleneck",
       [](const TaskRun& run) {
         dm::InformationBottleneck method(run.task.model, run.options(),
                                          learned_options<dm::InformationBottleneckOptions>(run));
         method.fit(*run.fitting.data);
         return method.attribute(run.batch());
       }},
      amortised_method<dm::ReadOutBottleneck, dm::BottleneckOptions>("bottleneck, read out"),
      {"noise tolerance",
       [](const TaskRun& run) {
         return dm::NoiseTolerance(run.task.model, run.options(),
                                   learned_options<dm::NoiseToleranceOptions>(run))
             .attribute(run.batch());
       }},
      amortised_method<dm::InfoMask, dm::InfoMaskOptions>("InfoMask"),
      {"DiffMask hidden",
       [](const TaskRun& run) { return fit_diffmask(run, dm::Masking::hidden); }},
      {"DiffMask input", [](const TaskRun& run) { return fit_diffmask(run, dm::Masking::input); }},
      {"DiffMask per-sample",
       [](const TaskRun& run) { return fit_per_sample(run, dm::GateKind::hard_concrete); }},
      {"REINFORCE per-sample",
       [](const TaskRun& run) { return fit_per_sample(run, dm::GateKind::bernoulli); }},
      {"GNNExplainer",
       [](const TaskRun& run) {
         return dm::GnnExplainer(run.task.model, run.options()).attribute(run.batch());
       },
       "ba_shapes"},
  };
  return all;
}

/// How near an attribution comes to the truth at each of its sites. Signs are left out: a position
/// that speaks against the prediction matters, too.
struct TaskScore {
  std::string site;
  diffmask::KnownAnswer answer;
  double precision = 0;  ///< r_precision
};

inline std::vector<TaskScore> score(const TaskRun& run, const diffmask::Attribution& attribution) {
  std::vector<TaskScore> scores;
  for (size_t depth = 0; depth < attribution.sites.size(); ++depth) {
    const at::Tensor column = attribution.scores.select(2, static_cast<int64_t>(depth)).abs();
    scores.push_back({attribution.sites[depth],
                      diffmask::known_answer(run.explained.truth, column, attribution.mask),
                      diffmask::r_precision(run.explained.truth, column, attribution.mask)});
  }
  return scores;
}
