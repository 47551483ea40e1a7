#pragma once
/// \file
/// Explaining an encoder of texts: probes and training as they suit its states.
///
///     DiffMask method = fitted_or_loaded(model, encoder_explainer(Masking::input), training,
///                                        development, encoder_training(Masking::input, 0.05),
///                                        "explainer.safetensors").method;

#include <cstdint>
#include <memory>
#include <string>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/train/trainer.hpp"
#include "diffmask/zoo/data/wordpiece.hpp"
#include "diffmask/zoo/nets/bert.hpp"

namespace diffmask {

/// Probes of 128 units after a layer norm. They begin open enough to be within epsilon, but not so
/// open that the penalty's gradient is gone.
ExplainerOptions encoder_explainer(Masking masking, BaselineOptions baseline = {});

/// Baselines that begin as the embedding of [MASK], which is nothing new to an encoder that was
/// fine-tuned on texts that lose words: for input gating.
BaselineOptions mask_baseline(const Bert& net, const WordPiece& tokenizer);

/// recipe::encoder with batches of like lengths. It trains to 0.7 of `epsilon`, so that what holds
/// on the examples that the explainer is selected on holds on others, too.
TrainerOptions encoder_training(Masking masking, double epsilon, double unit = 1.0,
                                double rate = 0.015);

struct FittedOrLoaded {
  DiffMask method;
  Summary summary = {};  ///< of 0 steps where it was loaded
};

/// The explainer in `file`, if that exists; else a new one, fitted and written there. With an empty
/// name it is fitted and not written.
FittedOrLoaded fitted_or_loaded(const std::shared_ptr<const FrozenModel>& model,
                                const ExplainerOptions& explainer, const Dataset& training,
                                const Dataset& validation, const TrainerOptions& options,
                                const std::string& file = "");

}  // namespace diffmask
