#include "diffmask/zoo/tasks/sentence_classifier.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstddef>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/metrics/classification.hpp"

namespace diffmask {
namespace {

enum SentenceStream : uint64_t { kLostWords = 102, kPhrases };

}  // namespace

SupervisedSummary fine_tune(Bert& net, const WordPiece& tokenizer,
                            const std::vector<LabelledSentence>& training,
                            const Sentences& development,
                            const SentenceClassifierOptions& options) {
  require(options.lost_words >= 0 && options.lost_words <= 1, "lost_words", "in [0, 1]",
          options.lost_words);
  require(options.phrases >= 0, "phrases", ">= 0", options.phrases);
  const auto generator = [&](SentenceStream of) {
    return make_generator(derive_seed(options.fine_tuning.seed, of));
  };
  const at::Generator losing = generator(kLostWords);
  const at::Tensor weights =
      frequency_weights(encode_sentences(training, tokenizer).data, tokenizer.size());
  const ModuleForward forward = [&](const Inputs& x) {
    if (!net.is_training()) return net.forward(x);
    return net.forward(with_lost_words(x, tokenizer, options.lost_words, weights, losing));
  };
  SupervisedOptions supervised = fine_tuning(options.fine_tuning);
  supervised.selection = [classes = net.head().classes](const at::Tensor& y, const at::Tensor& c) {
    return 1 - macro_f1(y.argmax(1), c, classes);
  };
  const Sentences more =
      encode_sentences(with_phrases(training, options.phrases, generator(kPhrases)), tokenizer);
  return trained_or_loaded(options.file, net, forward, cross_entropy, more.data, development.data,
                           supervised, options.callbacks);
}

std::vector<Heatmap> sentence_heatmaps(const Attribution& attribution, const Sentences& sentences,
                                       const WordPiece& tokenizer, const Batch& batch,
                                       const at::Tensor& predicted) {
  check_shape("predicted", predicted, {batch.size()});
  const auto name = [](const at::Tensor& label) {
    return sentiment_names().at(static_cast<size_t>(label.item<int64_t>()));
  };
  std::vector<Heatmap> maps;
  for (int64_t row = 0; row < batch.size(); ++row) {
    const auto example = batch.examples[row].item<int64_t>();
    const Encoding& encoding = sentences.data.encodings().at(static_cast<size_t>(example));
    maps.push_back(heatmap(attribution, row, token_names(tokenizer, encoding, batch.mask[row]),
                           fmt::format("Sentence {}: predicted {}, labelled {}", example + 1,
                                       name(predicted[row]), name(batch.labels[row]))));
  }
  return maps;
}

}  // namespace diffmask
