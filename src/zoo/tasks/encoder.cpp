#include "diffmask/zoo/tasks/encoder.hpp"

#include <ATen/ops/full.h>

#include <filesystem>
#include <utility>

namespace diffmask {

ExplainerOptions encoder_explainer(Masking masking, BaselineOptions baseline) {
  const double bias = masking == Masking::input ? 3.0 : 2.0;
  return {.masking = masking,
          .probe = mlp_probe({.hidden_size = 128, .initial_bias = bias, .layer_norm = true}),
          .baseline = std::move(baseline)};
}

BaselineOptions mask_baseline(const Bert& net, const WordPiece& tokenizer) {
  const at::Tensor ids = at::full({1, 1}, tokenizer.mask(), at::kLong);
  return {.start = BaselineOptions::Start::given, .vectors = {net.embed_words(ids).flatten()}};
}

TrainerOptions encoder_training(Masking masking, double epsilon, double unit, double rate) {
  constexpr double kMargin = 0.7;
  // To make a recording anew costs little beside a step's masked passes, so that few are kept.
  return {.epsilon = kMargin * epsilon,
          .batches = {.by_length = true, .cache_bytes = 256 << 20},
          .recipe = recipe::encoder(masking, unit, rate)};
}

FittedOrLoaded fitted_or_loaded(const std::shared_ptr<const FrozenModel>& model,
                                const ExplainerOptions& explainer, const Dataset& training,
                                const Dataset& validation, const TrainerOptions& options,
                                const std::string& file) {
  if (!file.empty() && std::filesystem::exists(file)) return {DiffMask::load(file, model)};
  DiffMask method(model, explainer);
  Summary summary = method.fit(training, validation, options);
  if (!file.empty()) method.save(file);
  return {std::move(method), std::move(summary)};
}

}  // namespace diffmask
