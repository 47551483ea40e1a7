#pragma once
/// \file
/// Explaining an image classifier by patches: where they are at each site, probes and training as
/// they suit its states.
///
///     const auto net = std::make_shared<ConvClassifier>(ConvClassifierOptions{}, generator);
///     const ImageClassifier classifier = image_classifier(net, /*columns=*/7);
///     classifier.train(training, validation, classifier.supervised());
///     DiffMask method(classifier.model, classifier.explainer(Masking::hidden));
///     method.fit(training, validation, classifier.training(Masking::hidden, 0.03));

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/mask/explainer_options.hpp"
#include "diffmask/mask/positions.hpp"
#include "diffmask/model/staged.hpp"
#include "diffmask/report/overlay.hpp"
#include "diffmask/train/callback.hpp"
#include "diffmask/train/trainer.hpp"
#include "diffmask/zoo/nets/supervised.hpp"
#include "diffmask/zoo/nets/vision.hpp"

namespace diffmask {

/// A net in evaluation mode, as what trains it and what explains it take it.
struct ImageClassifier {
  std::string name;  ///< "conv" or "transformer"
  std::shared_ptr<torch::nn::Module> module;
  ModuleForward forward;
  std::shared_ptr<StagedModel> model;
  std::vector<Positions> positions;  ///< the same patches at each of the model's sites
  bool attends = false;              ///< whether any patch may read any other

  /// How the net itself is trained, to about 88 % (convolutions) and 84 % (attention, for which
  /// this is little) of Fashion-MNIST by 16,000 images: 5 or 8 epochs.
  SupervisedOptions supervised(uint64_t seed = 0) const;

  /// train_supervised by cross entropy.
  SupervisedSummary train(const Dataset& training, const Dataset& validation,
                          const SupervisedOptions& options,
                          const std::vector<Callback>& callbacks = {}) const;

  /// The class that the net gives each image. Shape: (N) int64.
  at::Tensor predicted(const Dataset& data) const;

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

/// What the hard masks of each site take of the brightness of all images together, in [0, 1]. To
/// mask the dark ground around a thing is no feat. Shape: images (B, C, H, W), not negative; the
/// attribution's positions are their patches.
///
///     const auto shares = masked_brightness(method.attribute(batch), batch.inputs[0],
///                                           classifier.positions[0]);
std::vector<double> masked_brightness(const Attribution& attribution, const at::Tensor& images,
                                      const Positions& patches);

/// The share of all patches that hold nothing but zeros, in [0, 1]: what may be masked without any
/// effect. Shape: images (B, C, H, W).
double black_patches(const at::Tensor& images, const Positions& patches);

/// A row of a page for each image of the batch, titled "<name>: <its class>, predicted <class>".
/// Shape: batch.inputs[0] the images, predicted (B) int64. ArgumentError for a class without a name.
std::vector<Overlay> image_overlays(const Attribution& attribution, const Batch& batch,
                                    int64_t columns, const at::Tensor& predicted,
                                    const std::vector<std::string>& classes,
                                    const std::string& name);

}  // namespace diffmask
