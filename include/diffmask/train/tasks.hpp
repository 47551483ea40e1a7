#pragma once
/// \file
/// A model for each task of data/tasks.hpp, trained in seconds on one thread: the counting net for
/// counting, for the others an encoder of the BERT family of two layers of 64 numbers.
///
/// While an encoder is trained, half of a batch's examples have blanks (token 0) at a share of
/// their positions that is drawn for each, and keep their labels. So it learns to say how sure one
/// can be of what is left, and a blank is a fill under which erasure asks what it means to ask.

#include <string>

#include "diffmask/data/tasks.hpp"
#include "diffmask/mask/fill.hpp"
#include "diffmask/model/staged.hpp"
#include "diffmask/objective/divergence.hpp"
#include "diffmask/objective/target.hpp"
#include "diffmask/train/supervised.hpp"

namespace diffmask {

/// A task's model, and how it is explained.
struct TaskModel {
  std::shared_ptr<StagedModel> model;
  std::string site;  ///< the tokens' embeddings: the truth is about these
  at::Tensor blank;  ///< what stands there for a token that is taken away: a blank's embedding,
                     ///< or the mean of all digits'. Shape: (F)
  Target target;     ///< the predicted class; of one logit, the logit
  Divergence divergence;  ///< between outputs
  double accuracy = 0;    ///< on 1,000 fresh examples
  SupervisedSummary training;

  /// The fill that puts `blank` at `site`.
  Fill fill() const { return fill::given({{site, blank}}); }
};

/// Trains it. The seed decides its data, its first weights and the order of training.
/// ArgumentError for a task that is none of the list's.
TaskModel train_task_model(const Task& task, uint64_t seed,
                           const std::vector<Callback>& callbacks = {});

}  // namespace diffmask
