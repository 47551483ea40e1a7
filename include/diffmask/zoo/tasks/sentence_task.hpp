#pragma once
/// \file
/// Sentences and an encoder that tells their sentiment in five classes: the experiment of De Cao et
/// al. 2020, section 4.2, as a task. Read from files, or small and made for quick runs and tests.
///
///     SentenceTask task = make_sentence_task({.encoder = "minilm", .data = "trees"});
///     task.fine_tune();
///     DiffMask method(task.model, task.explainer(Masking::hidden));
///     method.fit(task.training.data, task.development.data, task.trainer(Masking::hidden, 0.05));

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/mask/explainer_options.hpp"
#include "diffmask/metrics/subject.hpp"
#include "diffmask/model/staged.hpp"
#include "diffmask/train/trainer.hpp"
#include "diffmask/zoo/data/rationales.hpp"
#include "diffmask/zoo/data/sentences.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "diffmask/zoo/tasks/plausibility.hpp"
#include "diffmask/zoo/tasks/sentence_classifier.hpp"

namespace diffmask {

struct SentenceTaskOptions {
  std::string encoder = "";  ///< Hugging Face folder (load_bert); if empty, a small made encoder
  std::string data = "";     ///< as read_sentence_parts takes it; if empty, 300 made reviews
  std::string lexicon = "";  ///< of reviews from a file: the valences of words; may be empty
  EncodedOptions encoding = {};
  SentenceClassifierOptions classifier = {};  ///< its seed is that of the net's first weights, too
};

struct SentenceTask {
  SentenceTaskOptions options;
  WordPiece tokenizer;
  Sentences training, development, test;
  std::shared_ptr<Bert> net;  ///< in evaluation mode
  std::shared_ptr<StagedModel> model;

  /// Trains the net, or loads its weights, by the options.
  SupervisedSummary fine_tune() const;

  /// encoder_explainer. If the net has learned from texts that lose words, baselines of input
  /// gating begin as [MASK] (mask_baseline).
  ExplainerOptions explainer(Masking masking) const;

  /// encoder_training with batches of 32 and `steps` >= 1 for hidden gating. Input gating has four
  /// times as many, since a step trains two of its depths, and dropout; its first depth has a tenth
  /// of epsilon. Validated once, at the end: all depths over the development part are dear.
  TrainerOptions trainer(Masking masking, double epsilon, int64_t steps = 1200) const;

  /// The model with random parameters, for ComparisonOptions::randomised: matrices from N(0, 0.02).
  std::shared_ptr<StagedModel> randomised(uint64_t seed) const;

  /// Of the sentences of development and test part that people marked; the seed decides the random
  /// words.
  Plausibility plausibility(const Attributor& method,
                            const std::vector<RationaleSentence>& rationales, uint64_t seed) const;

  /// For a comparison of methods: the test part is explained, and what learns does so from the
  /// development part, which the net has not learned from. The truth is what people marked
  /// (marked_tokens); sentences with marks come first. The seed draws the randomised model.
  Subject subject(const std::vector<RationaleSentence>& rationales, uint64_t seed) const;
};

/// Reads, or makes, everything; nothing is trained.
SentenceTask make_sentence_task(const SentenceTaskOptions& options = {});

}  // namespace diffmask
