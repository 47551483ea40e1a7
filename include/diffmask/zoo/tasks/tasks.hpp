#pragma once
/// \file
/// Tasks with known answers: for each example it is known which positions the label needs, so that
/// an attribution can be scored (metrics/known_answer.hpp) without asking a person or a model.
///
///     const TaskData data = task("lookup").make(1000, make_generator(seed));
///     const Batch batch = data.data->batch(iota(1000));
///     const at::Tensor truth = data.truth;   // (1000, 8)
///
/// Tokens are integers. 0 is the blank, which no example holds: models learn from it what a removed
/// token looks like. In BA-Shapes positions are a graph's edges. The truth is a set of positions S
/// with
///
///     label(x') = label(x)   for all x' of the task with x'_t = x_t for t in S
///
/// and the smallest such set, unless the task says otherwise.

#include <ATen/core/Generator.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/data/dataset.hpp"

namespace diffmask {

/// Examples of a task.
struct TaskData {
  std::shared_ptr<const Dataset> data;  ///< with labels (N) int64, classes from 0
  at::Tensor truth;  ///< (N, T) bool, T the longest example's positions; all false in the row of an
                     ///< example without a unique answer

  /// Only the examples that have an answer, in their order; ArgumentError if none has.
  TaskData answered() const;
};

/// Draws `size` >= 1 examples, else ArgumentError. Inputs are tokens (B, T) int64 and mask (B, T)
/// bool unless the task says otherwise.
using MakeTask = std::function<TaskData(int64_t size, at::Generator generator)>;

/// 9 tokens: 1, 3 or 5 of them are votes, 1 or 2; the others are 3 to 8. The label is 1 iff there
/// are more 1 than 2; there are no ties. Truth: the positions of the votes, all equally, as in the
/// counting task. It fixes the label as long as the others are 3 to 8, but is not always the
/// smallest set: of five votes three may be enough.
TaskData make_majority(int64_t size, at::Generator generator);

/// 8 tokens of 1 to 7. The first is a position, whose token is the answer: label = x[x[0]] - 1.
/// Truth: {0, x[0]}.
TaskData make_lookup(int64_t size, at::Generator generator);

/// 8 tokens of 1 to 7, none of which is its own position. The first is a position i, whose token is
/// another position j, whose token is the answer: label = x[x[x[0]]] - 1. Truth: {0, i, j}.
TaskData make_two_hop(int64_t size, at::Generator generator);

/// 8 tokens of 1 to 4 that read the same from both ends; in half of the examples, on average, one
/// token is changed. The label is 1 iff one is. Truth: that token and its mirror image. A
/// palindrome has no unique answer, as it needs all of its pairs equally.
TaskData make_palindrome(int64_t size, at::Generator generator);

/// The counting task (zoo/data/counting.hpp) with inputs digits, queries and mask. Truth: the
/// positions that hold a digit of the query, all equally; no answer if there is none.
TaskData make_counting_task(int64_t size, at::Generator generator);

/// Small BA-Shapes (zoo/data/motif_graphs.hpp): the examples are nodes, each at most once, of
/// graphs with a base of 30 nodes and 8 houses (NodeDataset, 3 hops; both directions of an edge
/// share a gate). The label is the node's class: base, middle, bottom or top of a house. Truth: the
/// edges of the node's house (Ying et al. 2019); no answer for a node of the base. These edges
/// define the class; it does not follow that a model needs all of them, or no others.
TaskData make_ba_shapes_task(int64_t size, at::Generator generator);

struct Task {
  std::string name;
  int64_t vocabulary = 0;  ///< all tokens are below it; 0 if inputs are not tokens
  int64_t classes = 0;
  MakeTask make;
};

/// All of them: "counting", "majority", "lookup", "two_hop", "palindrome", "ba_shapes".
const std::vector<Task>& tasks();

/// The task of this name; ArgumentError lists the names there are.
const Task& task(const std::string& name);

}  // namespace diffmask
