#include "diffmask/metrics/mask_score.hpp"

#include <ATen/ATen.h>

#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/mask/masking.hpp"
#include "diffmask/metrics/classification.hpp"
#include "diffmask/objective/divergence.hpp"

namespace diffmask {

void MaskScore::add(const MaskScore& other, double weight) {
  accuracy += weight * other.accuracy;
  macro_f1 += weight * other.macro_f1;
  masked_share += weight * other.masked_share;
  divergence += weight * other.divergence;
  within_epsilon += weight * other.within_epsilon;
}

MaskScore score_masks(const FrozenModel& model, const Explainer& explainer, int64_t depth,
                      RecordedBatches& data, double epsilon, int64_t classes, const Masks& masks) {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> predicted, labels, divergences, kept;
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto item = data.at(i);
    require(item->batch.labels.defined(), "data", "a data set with labels", "one without");
    const at::Tensor z = masks(*item);
    const at::Tensor output = explainer.masked_output(model, item->recording, depth, z);
    predicted.push_back(output.argmax(1));
    labels.push_back(item->batch.labels);
    divergences.push_back(divergence::categorical(item->recording.output(), output));
    const at::Tensor weights = item->batch.mask.to(z.scalar_type());
    kept.push_back((z * weights).sum(1) / weights.sum(1));
  }
  const at::Tensor all = at::cat(predicted), truth = at::cat(labels), d = at::cat(divergences);
  return {accuracy(all, truth), macro_f1(all, truth, classes),
          1 - at::cat(kept).mean().item<double>(), d.mean().item<double>(),
          d.le(epsilon).to(at::kDouble).mean().item<double>()};
}

MaskScores score_depth(const FrozenModel& model, const Explainer& explainer, int64_t depth,
                       RecordedBatches& data, double epsilon, int64_t classes, int64_t draws,
                       at::Generator generator) {
  require(draws >= 1, "draws", ">= 1", draws);
  const auto chosen = [&](const RecordedBatch& item) {
    at::NoGradGuard no_grad;
    return explainer.gates(item.recording, item.batch, {depth}, Draw::hard).front().z;
  };
  const auto shuffled = [&](const RecordedBatch& item) {
    return shuffled_mask(chosen(item), item.batch.mask, generator);
  };
  MaskScores scores{score_masks(model, explainer, depth, data, epsilon, classes, chosen), {}};
  for (int64_t draw = 0; draw < draws; ++draw) {
    scores.random.add(score_masks(model, explainer, depth, data, epsilon, classes, shuffled),
                      1.0 / static_cast<double>(draws));
  }
  return scores;
}

}  // namespace diffmask
