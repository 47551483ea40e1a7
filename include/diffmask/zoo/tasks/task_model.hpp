#pragma once
/// \file
/// A model for each task of zoo/tasks/tasks.hpp, trained in seconds on one thread: the counting net
/// for counting, the graph network that GNNExplainer was published with for BA-Shapes, and an
/// encoder of the BERT family with two layers of size 64 for the others.
///
///     const TaskModel trained = train_task_model(task("lookup"), /*seed=*/0);
///     DiffMask method(trained.model, trained.explainer);
///     fmt::print("accuracy {:.3f}\n", trained.accuracy);
///
/// While an encoder is trained, half of each batch's examples have blanks (token 0) at a random
/// share of their positions and keep their labels. So it learns how sure one can be from what is
/// left, and filling with blanks asks the question that erasure means to ask.
///
/// DiffMask on BA-Shapes: with input gating, the gates that probes on an edge's ends give in each
/// layer are multiplied, and a masked edge is removed from all layers (GraphMask's probes,
/// GNNExplainer's masks). With hidden gating, a gate at "ends.l" drops the message in that layer
/// only (GraphMask), where only edges that lead to the node within the layers above matter; at
/// "edge", where all edges look alike, it can only be uniform.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/mask/explainer.hpp"
#include "diffmask/mask/fill.hpp"
#include "diffmask/model/frozen_model.hpp"
#include "diffmask/objective/divergence.hpp"
#include "diffmask/objective/target.hpp"
#include "diffmask/zoo/nets/supervised.hpp"
#include "diffmask/zoo/tasks/tasks.hpp"

namespace diffmask {

/// A task's model, and how it is explained.
struct TaskModel {
  std::shared_ptr<FrozenModel> model;
  std::string site;  ///< the site that the truth is about: the tokens' embeddings, or the edges
  at::Tensor
      blank;      ///< the state there of a position that is removed: a blank's embedding, the mean
                  ///< of all digits' embeddings, or 0, which is no edge. Shape: (F)
  Target target;  ///< the predicted class, or the logit if there is only one
  Divergence divergence;            ///< between outputs
  ExplainerOptions explainer = {};  ///< which sites DiffMask explains, and their baselines
  double accuracy = 0;              ///< on 1,000 fresh examples
  SupervisedSummary training;

  /// The fill that puts `blank` at `site`.
  Fill fill() const { return fill::given({{site, blank}}); }
};

/// Trains the model of one of `tasks()`; ArgumentError for another task. Streams for the data, the
/// first weights, the blanks and the order of training are derived from the seed.
TaskModel train_task_model(const Task& task, uint64_t seed,
                           const std::vector<Callback>& callbacks = {});

}  // namespace diffmask
