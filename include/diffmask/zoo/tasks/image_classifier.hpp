#pragma once
/// \file
/// Explaining an image classifier by patches: where they are at each site, probes and training as
/// they suit its states.
///
///     const auto net = std::make_shared<ConvClassifier>(ConvClassifierOptions{}, generator);
///     const ImageClassifier classifier = image_classifier(net, /*columns=*/7);
///     train_supervised(*net, classifier.forward, cross_entropy, training, validation, {});
///     DiffMask method(classifier.model, classifier.explainer(Masking::hidden));
///     method.fit(training, validation, classifier.training(Masking::hidden, 0.03));

#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "diffmask/mask/explainer_options.hpp"
#include "diffmask/mask/positions.hpp"
#include "diffmask/model/staged.hpp"
#include "diffmask/train/trainer.hpp"
#include "diffmask/zoo/nets/supervised.hpp"
#include "diffmask/zoo/nets/vision.hpp"

namespace diffmask {

/// A net in evaluation mode, as what trains it and what explains it take it.
struct ImageClassifier {
  std::shared_ptr<torch::nn::Module> module;
  ModuleForward forward;
  std::shared_ptr<StagedModel> model;
  std::vector<Positions> positions;  ///< the same patches at each of the model's sites
  bool attends = false;              ///< whether any patch may read any other

  /// Baselines begin at zero, a black ground; probes begin at a logit of 2, as few steps are made.
  /// Input gating masks pixels by all sites, hidden gating each of the sites above the pixels.
  ExplainerOptions explainer(Masking masking) const;

  /// recipe::images, or encoder_training where patches attend.
  TrainerOptions training(Masking masking, double epsilon) const;
};

/// By patches of which `columns` lie side by side, from the pixels to the last block's cells.
/// ArgumentError unless each site's width is divisible by `columns`.
ImageClassifier image_classifier(std::shared_ptr<ConvClassifier> net, int64_t columns);

/// By the net's own patches.
ImageClassifier image_classifier(std::shared_ptr<VisionTransformer> net);

}  // namespace diffmask
