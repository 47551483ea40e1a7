#pragma once
/// \file
/// A model for each task of zoo/tasks/tasks.hpp, trained in seconds on one thread: the counting net for
/// counting, for BA-Shapes the graph network that GNNExplainer was published with, for the others
/// an encoder of the BERT family of two layers of 64 numbers.
///
/// While an encoder is trained, half of a batch's examples have blanks (token 0) at a share of
/// their positions that is drawn for each, and keep their labels. So it learns to say how sure one
/// can be of what is left, and a blank is a fill under which erasure asks what it means to ask.
///
/// DiffMask on BA-Shapes: with input gating the gates of an edge that probes on its ends give in
/// each layer are multiplied, and a masked edge is none in any layer (GraphMask's probes,
/// GNNExplainer's masks). With hidden gating a gate at "ends.l" drops its message in that layer
/// alone (GraphMask), where only edges that lead to the node within the layers above matter; at
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
  std::string site;  ///< what the truth is about: the tokens' embeddings, or the edges' factors
  at::Tensor blank;  ///< what stands there for a position that is taken away: a blank's embedding,
                     ///< the mean of all digits', or 0, which is no edge. Shape: (F)
  Target target;     ///< the predicted class; of one logit, the logit
  Divergence divergence;            ///< between outputs
  ExplainerOptions explainer = {};  ///< what DiffMask explains: its depths and their baselines
  double accuracy = 0;              ///< on 1,000 fresh examples
  SupervisedSummary training;

  /// The fill that puts `blank` at `site`.
  Fill fill() const { return fill::given({{site, blank}}); }
};

/// Trains it. The seed decides its data, its first weights and the order of training.
/// ArgumentError for a task that is none of the list's.
TaskModel train_task_model(const Task& task, uint64_t seed,
                           const std::vector<Callback>& callbacks = {});

}  // namespace diffmask
