#pragma once
/// \file
/// Film reviews and a small recurrent net that tells the class of their rating: texts on which a
/// classifier and its explainers are trained in minutes on one core. The ratings are cut into
/// classes of equal size (review_datasets).
///
///     const ReviewTask task = make_review_task(read_reviews("reviews.txt"));
///     task.train(/*epochs=*/5);
///     DiffMask method(task.model, task.explainer(Masking::input));
///     method.fit(task.data.training, task.data.development, task.trainer(0.025));

#include <cstdint>
#include <memory>
#include <vector>

#include "diffmask/mask/explainer_options.hpp"
#include "diffmask/model/staged.hpp"
#include "diffmask/train/callback.hpp"
#include "diffmask/train/trainer.hpp"
#include "diffmask/zoo/data/reviews.hpp"
#include "diffmask/zoo/nets/gru_classifier.hpp"
#include "diffmask/zoo/nets/supervised.hpp"

namespace diffmask {

struct ReviewTask {
  ReviewParts parts;
  ReviewDatasets data;                 ///< the parts, as the net reads them
  std::shared_ptr<GruClassifier> net;  ///< in evaluation mode
  std::shared_ptr<StagedModel> model;
  uint64_t seed = 0;

  /// Trains the net; keeps the epoch with the least loss on the development part.
  SupervisedSummary train(int64_t epochs = 5, const std::vector<Callback>& callbacks = {}) const;

  /// Probes of 128 units after a layer norm.
  ExplainerOptions explainer(Masking masking) const;

  /// recipe::reviews in batches of 64 of like lengths.
  TrainerOptions trainer(double epsilon, int64_t steps = 600) const;
};

/// Splits the reviews, makes their vocabulary and an untrained net. The seed draws the net's first
/// weights, and is that of all training. ArgumentError for fewer than 50 reviews.
ReviewTask make_review_task(const std::vector<Review>& reviews, int64_t classes = 5,
                            uint64_t seed = 0);

}  // namespace diffmask
