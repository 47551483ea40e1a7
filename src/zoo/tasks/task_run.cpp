#include "diffmask/zoo/tasks/task_run.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "diffmask/core/random.hpp"
#include "diffmask/probe/mlp.hpp"

namespace diffmask {
namespace {

enum TaskRunStream : uint64_t { kExamples = 200, kRandom, kRandomSearch };

bool is_graph(const TaskRun& run) { return run.task.site == "edge"; }

}  // namespace

Batch TaskRun::batch() const { return explained.data->batch(iota(explained.data->size())); }

AttributionOptions TaskRun::options() const {
  return {.sites = {task.site},
          .target = task.target,
          .fill = task.fill(),
          .passes = {.max_batch = 256}};
}

MethodSettings TaskRun::settings(const std::string& method) const {
  ExplainerOptions explainer = task.explainer;
  explainer.probe = mlp_probe({.initial_bias = 4.0});
  if (explainer.sites.empty()) explainer.sites = task.model->site_names();
  const int64_t quarter = steps / 4;
  MethodSettings settings{
      .seed = seed,
      // Of many edges only those that cost least by first order are tried.
      .beam_by_gradient = explained.data->longest() > 20,
      // All sets of 10 tokens, the most there are; of edges, of which there are more, those of one
      // and some of two.
      .max_passes = 1024,
      .random_passes = 100,
      // Searches keep what DiffMask has to keep: the output within epsilon, not merely its class.
      .criterion =
          [divergence = task.divergence, epsilon = epsilon](const at::Tensor& output,
                                                            const at::Tensor& original) {
            return divergence(original, output).le(epsilon);
          },
      .divergence = task.divergence,
      .epsilon = epsilon,
      .training_steps = steps,
      .batches = {.batch_size = 128},
      .example_steps = std::max<int64_t>(steps / 6, 1),
      .draws = 2,
      // All edges' factors are 1, of which no noise can be learned: theirs is as large as they are.
      .noise_floor = is_graph(*this) ? 1.0 : 0.0,
      .recipe = Recipe{.name = "task",
                       .warm_up = quarter,
                       .final_rate = 0.2,
                       .validate_every = std::max<int64_t>(quarter, 1)},
      .explainer = explainer};
  if (method == "random") settings.seed = derive_seed(seed, kRandom);
  if (method == "random_search") settings.seed = derive_seed(seed, kRandomSearch);
  if (method == "gnn_explainer") settings.example_steps = 0;  // as many as it has by itself
  if (method == "diffmask_per_sample" || method == "reinforce_per_sample") {
    // With the blank in place of a learned baseline: as erasure sees it.
    settings.explainer = ExplainerOptions{
        .sites = {task.site},
        .baseline = {
            .start = BaselineOptions::Start::given, .vectors = {task.blank}, .learned = false}};
    settings.recipe->gate_rate = 0.3;
    settings.example_steps = steps;
  }
  return settings;
}

bool TaskRun::suits(const std::string& method) const {
  return method != "gnn_explainer" || is_graph(*this);
}

Attribution TaskRun::explain(const Method& method) const {
  return method.make(task.model, options(), settings(method.name), fitting.data)
      ->attribute(batch());
}

std::vector<SiteAnswer> TaskRun::score(const Attribution& attribution) const {
  return site_answers(explained.truth, attribution);
}

TaskRun make_task_run(const Task& task, const TaskRunOptions& options) {
  const at::Generator generator = make_generator(derive_seed(options.seed, kExamples));
  TaskRun run{.task = train_task_model(task, options.seed, options.callbacks)};
  run.fitting = task.make(options.fitting, generator);
  run.explained = task.make(options.examples, generator).answered();
  run.seed = options.seed;
  return run;
}

}  // namespace diffmask
