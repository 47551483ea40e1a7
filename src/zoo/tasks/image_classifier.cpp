#include "diffmask/zoo/tasks/image_classifier.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstddef>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/probe/mlp.hpp"
#include "diffmask/zoo/tasks/encoder.hpp"

namespace diffmask {
namespace {

template <typename Net>
ImageClassifier classifier_of(const char* name, const std::shared_ptr<Net>& net,
                              std::vector<Positions> positions, bool attends) {
  net->eval();
  return {name,
          net,
          [net](const Inputs& x) { return net->forward(x[0]); },
          staged(net),
          std::move(positions),
          attends};
}

}  // namespace

SupervisedOptions ImageClassifier::supervised(uint64_t seed) const {
  if (!attends) return {.epochs = 5, .rate = 4e-3, .warm_up = 0.05, .seed = seed};
  return {.epochs = 8, .rate = 3e-3, .warm_up = 0.1, .weight_decay = 0.02, .seed = seed};
}

SupervisedSummary ImageClassifier::train(const Dataset& training, const Dataset& validation,
                                         const SupervisedOptions& options,
                                         const std::vector<Callback>& callbacks) const {
  return train_supervised(*module, forward, cross_entropy, training, validation, options,
                          callbacks);
}

at::Tensor ImageClassifier::predicted(const Dataset& data) const {
  return predict(*module, forward, data).argmax(1);
}

ExplainerOptions ImageClassifier::explainer(Masking masking) const {
  ExplainerOptions options{
      .masking = masking,
      .sites = model->site_names(),
      .positions = positions,
      .probe = mlp_probe({.hidden_size = 64, .initial_bias = 2.0, .layer_norm = attends}),
      .baseline = {.start = BaselineOptions::Start::zero}};
  if (masking == Masking::hidden) {
    options.sites.erase(options.sites.begin());
    options.positions.erase(options.positions.begin());
  }
  return options;
}

TrainerOptions ImageClassifier::training(Masking masking, double epsilon) const {
  if (!attends) return {.epsilon = epsilon, .recipe = recipe::images(masking)};
  TrainerOptions options = encoder_training(masking, epsilon);
  // Hidden states at half strength still carry everything, so that expected gates would settle on
  // half-open ones, which no hard mask can copy: hidden gating trains on samples alone.
  if (masking == Masking::hidden) options.recipe.expected_every = 0;
  options.recipe.validate_every = 100;
  return options;
}

ImageClassifier image_classifier(std::shared_ptr<ConvClassifier> net, int64_t columns) {
  require(net != nullptr, "net", "a net", "a null pointer");
  require(columns >= 1, "columns", ">= 1", columns);
  std::vector<Positions> positions;
  int64_t width = net->options().image.width;
  for (size_t site = 0; site <= net->options().sizes.size(); ++site, width /= 2) {
    require(width % columns == 0, "columns", fmt::format("a divisor of {}, a site's width", width),
            columns);
    positions.push_back({Positions::Layout::image, width / columns});
  }
  return classifier_of("conv", net, std::move(positions), /*attends=*/false);
}

ImageClassifier image_classifier(std::shared_ptr<VisionTransformer> net) {
  require(net != nullptr, "net", "a net", "a null pointer");
  // The pixels are an image; "patches" and the layers' states are sequences.
  std::vector<Positions> positions(static_cast<size_t>(net->options().layers) + 2);
  positions[0] = {Positions::Layout::image, net->options().patch};
  return classifier_of("transformer", net, std::move(positions), /*attends=*/true);
}

std::vector<double> masked_brightness(const Attribution& attribution, const at::Tensor& images,
                                      const Positions& patches) {
  const at::Tensor bright = patches.features(images).sum(2, /*keepdim=*/false, at::kDouble);
  check_shape("patches of the images", bright, attribution.mask.sizes());
  std::vector<double> shares;
  for (int64_t site = 0; site < attribution.keep.size(2); ++site) {
    const at::Tensor masked = attribution.keep.select(2, site).logical_not();
    shares.push_back((bright * masked).sum().item<double>() / bright.sum().item<double>());
  }
  return shares;
}

double black_patches(const at::Tensor& images, const Positions& patches) {
  return patches.features(images).ne(0).any(2).logical_not().to(at::kDouble).mean().item<double>();
}

std::vector<Overlay> image_overlays(const Attribution& attribution, const Batch& batch,
                                    int64_t columns, const at::Tensor& predicted,
                                    const std::vector<std::string>& classes,
                                    const std::string& name) {
  check_shape("predicted", predicted, {batch.size()});
  const auto class_of = [&](const at::Tensor& label) {
    const auto index = label.item<int64_t>(), count = static_cast<int64_t>(classes.size());
    require(index >= 0 && index < count, "classes", fmt::format("a name of class {}", index),
            fmt::format("{} names", count));
    return classes[static_cast<size_t>(index)];
  };
  std::vector<Overlay> rows;
  for (int64_t i = 0; i < batch.size(); ++i) {
    rows.push_back(overlay(attribution, i, batch.inputs[0][i], columns,
                           fmt::format("{}: {}, predicted {}", name, class_of(batch.labels[i]),
                                       class_of(predicted[i]))));
  }
  return rows;
}

}  // namespace diffmask
