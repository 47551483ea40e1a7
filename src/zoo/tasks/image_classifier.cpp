#include "diffmask/zoo/tasks/image_classifier.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/probe/mlp.hpp"
#include "diffmask/zoo/tasks/encoder.hpp"

namespace diffmask {
namespace {

template <typename Net>
ImageClassifier classifier_of(const std::shared_ptr<Net>& net, std::vector<Positions> positions,
                              bool attends) {
  net->eval();
  return {net, [net](const Inputs& x) { return net->forward(x[0]); }, staged(net),
          std::move(positions), attends};
}

}  // namespace

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
  return classifier_of(net, std::move(positions), /*attends=*/false);
}

ImageClassifier image_classifier(std::shared_ptr<VisionTransformer> net) {
  require(net != nullptr, "net", "a net", "a null pointer");
  // The pixels are an image; "patches" and the layers' states are sequences.
  std::vector<Positions> positions(static_cast<size_t>(net->options().layers) + 2);
  positions[0] = {Positions::Layout::image, net->options().patch};
  return classifier_of(net, std::move(positions), /*attends=*/true);
}

}  // namespace diffmask
