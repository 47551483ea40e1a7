#pragma once
/// \file
/// Any method of attribution on a task with a known answer, scored against the truth. A new method
/// is put to the test in three lines:
///
///     const TaskRun run = make_task_run(task("lookup"));
///     const Attribution attribution = run.explain(method("leave_one_out"));
///     for (const SiteAnswer& score : run.score(attribution)) fmt::print("{}\n", score.precision);

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/attribution/methods.hpp"
#include "diffmask/metrics/known_answer.hpp"
#include "diffmask/zoo/tasks/task_model.hpp"

namespace diffmask {

/// A task's model, and what is explained of it.
struct TaskRun {
  TaskModel task;
  TaskData fitting = {};    ///< for methods that learn from training data
  TaskData explained = {};  ///< examples that have an answer
  uint64_t seed = 0;
  int64_t steps = 600;    ///< of methods that are trained, >= 1; others take their share of it
  double epsilon = 0.05;  ///< nats that an output may move: DiffMask's constraint, and searches'

  /// All that are explained.
  Batch batch() const;

  /// The tokens or edges are explained; what is taken away becomes a blank.
  AttributionOptions options() const;

  /// The settings that suit the task, for any method of the list and for others.
  MethodSettings settings(const std::string& method) const;

  /// Whether the method is made for such a task: "gnn_explainer" is for graphs.
  bool suits(const std::string& method) const;

  /// Made, trained where it needs that, and run on the batch. The first site is the tokens' or
  /// edges'; DiffMask explains those of `task.explainer` too.
  Attribution explain(const Method& method) const;

  /// Against the truth of what is explained, site by site.
  std::vector<SiteAnswer> score(const Attribution& attribution) const;
};

struct TaskRunOptions {
  uint64_t seed = 0;                     ///< of the model, the data and the methods
  int64_t examples = 200;                ///< drawn, >= 1; those that have an answer are explained
  int64_t fitting = 4000;                ///< drawn for methods that learn from training data, >= 1
  std::vector<Callback> callbacks = {};  ///< of the model's training
};

/// Trains the task's model (train_task_model) and draws the data.
TaskRun make_task_run(const Task& task, const TaskRunOptions& options = {});

}  // namespace diffmask
