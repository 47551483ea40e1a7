#pragma once
/// \file
/// Fine-tuning of an encoder to tell the sentiment of sentences, so that it can be explained: on
/// texts that lose words (zoo/nets/fine_tuning.hpp), and on phrases as well. And pictures of what it
/// needs.
///
///     const auto parts = read_sentence_parts("trees");
///     const auto net = load_bert("minilm", {.classes = 5}, make_generator(0));
///     const Sentences development = encode_sentences(parts.development, tokenizer);
///     fine_tune(*net, tokenizer, parts.training, development, {.file = "classifier.safetensors"});

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/train/callback.hpp"
#include "diffmask/zoo/data/sentences.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "diffmask/zoo/nets/fine_tuning.hpp"

namespace diffmask {

struct SentenceClassifierOptions {
  FineTuningOptions fine_tuning = {};
  /// Sentences lose words at a rate uniform on 0 to this, in [0, 1]; rare ones at down to half of it
  /// (frequency_weights).
  double lost_words = 1.0;
  /// Phrases of each sentence that are learned from as well (with_phrases), >= 0. Reviews have none.
  int64_t phrases = 2;
  std::string file = "";                 ///< the weights: loaded if it exists, else written
  std::vector<Callback> callbacks = {};  ///< of the training
};

/// The net is left in evaluation mode, with the weights of the epoch of the best macro-F1 on
/// `development`: the loss rises before macro-F1, which is reported, falls. The summary's loss is
/// 1 - macro-F1; of loaded weights it is of epoch 0.
SupervisedSummary fine_tune(Bert& net, const WordPiece& tokenizer,
                            const std::vector<LabelledSentence>& training,
                            const Sentences& development,
                            const SentenceClassifierOptions& options = {});

/// A picture of each sentence in the batch, with its predicted and its own label as the title.
/// Shape: predicted (B) int64. ArgumentError where the attribution is of other positions.
std::vector<Heatmap> sentence_heatmaps(const Attribution& attribution, const Sentences& sentences,
                                       const WordPiece& tokenizer, const Batch& batch,
                                       const at::Tensor& predicted);

}  // namespace diffmask
