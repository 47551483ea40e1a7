#pragma once
/// \file
/// Tasks with known answers: for each example it is known which positions the label needs, so that
/// an attribution can be scored (metrics/known_answer.hpp) without asking a person or a model.
///
/// Tokens are numbers; 0 is the blank, which no example holds: it is there for models to learn what
/// a token that was taken away looks like. In BA-Shapes positions are a graph's edges. The truth is
/// a set of positions S of which holds
///
///     label(x') = label(x)   for all x' of the task with x'_t = x_t for t in S,
///
/// S being the smallest such set but where the task says otherwise.

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
  at::Tensor truth;  ///< (N, T) bool, T the longest example's positions; a row without true is one
                     ///< that has no unique answer

  /// Only the examples that have an answer, in their order; ArgumentError where none has.
  TaskData answered() const;
};

/// The examples that are drawn number `size` >= 1, else ArgumentError. Where nothing else is said
/// inputs are tokens (B, T) int64 and mask (B, T) bool.
using MakeTask = std::function<TaskData(int64_t size, at::Generator generator)>;

/// 9 tokens, of which 1, 3 or 5 are 1 or 2 and the others 3 to 8. The label is 1 iff there are more
/// 1 than 2; there are no ties. Truth: the positions that hold 1 or 2, all alike, as in the
/// counting task. It fixes the label while the others hold 3 to 8, and is no smallest set: of five
/// that count three may be enough.
TaskData make_majority(int64_t size, at::Generator generator);

/// 8 tokens of 1 to 7; the first names a position, whose token is the answer: label = x[x[0]] - 1.
/// Truth: {0, x[0]}.
TaskData make_lookup(int64_t size, at::Generator generator);

/// 8 tokens of 1 to 7; no position names itself. The first names a position i, whose token names
/// another, j, whose token is the answer: label = x[x[x[0]]] - 1. Truth: {0, i, j}.
TaskData make_two_hop(int64_t size, at::Generator generator);

/// 8 tokens of 1 to 4 that read the same from both ends; in every other example, on average, one
/// token was changed. The label is 1 iff one was. Truth: that token and its mirror image. A
/// palindrome needs all of its pairs alike, so that saying nothing would be right: no unique
/// answer.
TaskData make_palindrome(int64_t size, at::Generator generator);

/// The counting task (zoo/data/counting.hpp), whose inputs are digits, queries and mask. Truth: the
/// positions that hold a query's digit, all alike; none where there are no such.
TaskData make_counting_task(int64_t size, at::Generator generator);

/// BA-Shapes (zoo/data/motif_graphs.hpp) in small: nodes of graphs with a base of 30 and 8 houses, each
/// once, as examples (NodeDataset, 3 hops; both directions of an edge share a gate). The label is
/// the node's class: base, middle, bottom or top of a house. Truth: the edges of the node's own
/// house (Ying et al. 2019); none for a node of the base. It is what a class is defined by: that
/// all of these edges are needed, or no others, is not said.
TaskData make_ba_shapes_task(int64_t size, at::Generator generator);

struct Task {
  std::string name;
  int64_t vocabulary = 0;  ///< tokens are below it; 0: inputs are no tokens
  int64_t classes = 0;
  MakeTask make;
};

/// All of them: "counting", "majority", "lookup", "two_hop", "palindrome", "ba_shapes".
const std::vector<Task>& tasks();

/// The one of this name; ArgumentError names those that there are.
const Task& task(const std::string& name);

}  // namespace diffmask
