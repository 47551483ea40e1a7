#include "diffmask/zoo/tasks/review_task.hpp"

#include <utility>

#include "diffmask/core/random.hpp"
#include "diffmask/probe/mlp.hpp"

namespace diffmask {
namespace {

enum ReviewTaskStream : uint64_t { kReviewNet = 100 };

}  // namespace

SupervisedSummary ReviewTask::train(int64_t epochs, const std::vector<Callback>& callbacks) const {
  const auto forward = [net = net](const Inputs& x) { return net->forward(x[0], x[1]); };
  const SupervisedOptions training{
      .epochs = epochs, .rate = 8e-3, .weight_decay = 0.1, .pool = 16, .seed = seed};
  return train_supervised(*net, forward, cross_entropy, data.training, data.development, training,
                          callbacks);
}

ExplainerOptions ReviewTask::explainer(Masking masking) const {
  return {.masking = masking, .probe = mlp_probe({.hidden_size = 128, .layer_norm = true})};
}

TrainerOptions ReviewTask::trainer(double epsilon, int64_t steps) const {
  return {.epsilon = epsilon,
          .steps = steps,
          .batches = {.batch_size = 64, .by_length = true},
          .seed = seed,
          .recipe = recipe::reviews()};
}

ReviewTask make_review_task(const std::vector<Review>& reviews, int64_t classes, uint64_t seed) {
  ReviewParts parts = split_reviews(reviews);
  ReviewDatasets data = review_datasets(parts, classes);
  const auto net = std::make_shared<GruClassifier>(
      GruClassifierOptions{.vocabulary = data.vocabulary.size(), .classes = classes},
      make_generator(derive_seed(seed, kReviewNet)));
  net->eval();
  return {std::move(parts), std::move(data), net, staged(net), seed};
}

}  // namespace diffmask
