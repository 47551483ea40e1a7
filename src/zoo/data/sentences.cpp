#include "diffmask/zoo/data/sentences.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/metrics/agreement.hpp"

namespace diffmask {

Sentences encode_sentences(std::vector<LabelledSentence> sentences, const WordPiece& tokenizer,
                           EncodedOptions options) {
  options.padding = tokenizer.padding();
  std::vector<Encoding> encodings;
  std::vector<int64_t> labels;
  for (const LabelledSentence& sentence : sentences) {
    encodings.push_back(tokenizer.encode_words(sentence.words));
    labels.push_back(sentence.label);
  }
  EncodedDataset data(std::move(encodings), at::tensor(labels, at::kLong), options);
  return {std::move(sentences), std::move(data)};
}

SentenceParts review_sentences(const std::vector<Review>& reviews,
                               const std::map<std::string, double>& lexicon) {
  const ReviewParts parts = split_reviews(reviews);
  const auto borders = quantile_borders(ratings_of(parts.training), 5);
  return {labelled_sentences(parts.training, borders, lexicon),
          labelled_sentences(parts.development, borders, lexicon),
          labelled_sentences(parts.held_out, borders, lexicon)};
}

SentenceParts read_sentence_parts(const std::string& path, const std::string& lexicon) {
  if (std::filesystem::is_directory(path)) {
    return {read_trees(path + "/train.txt"), read_trees(path + "/dev.txt"),
            read_trees(path + "/test.txt")};
  }
  return review_sentences(read_reviews(path), lexicon.empty() ? std::map<std::string, double>()
                                                              : read_lexicon(lexicon));
}

std::vector<double> survival_by_sentiment(const Sentences& sentences,
                                          const std::vector<at::Tensor>& scores) {
  require(scores.size() == sentences.sentences.size(), "scores",
          fmt::format("of {} sentences", sentences.sentences.size()), scores.size());
  std::vector<double> survived;
  std::vector<int64_t> labels;
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto& own = sentences.sentences[i].word_labels;
    const auto depths = word_means(sentences.data.encodings()[i], scores[i].sum(1),
                                   static_cast<int64_t>(own.size()));
    survived.insert(survived.end(), depths.begin(), depths.end());
    labels.insert(labels.end(), own.begin(), own.end());
  }
  return means_by_label(at::tensor(survived, at::kDouble), at::tensor(labels, at::kLong),
                        static_cast<int64_t>(sentiment_names().size()));
}

std::vector<std::string> token_names(const WordPiece& tokenizer, const Encoding& encoding,
                                     const at::Tensor& mask) {
  std::vector<std::string> names;
  for (int64_t t = 0; t < encoding.size(); ++t) {
    if (!mask[t].item<bool>()) continue;
    names.push_back(tokenizer.token(encoding.ids[static_cast<size_t>(t)]));
  }
  return names;
}

}  // namespace diffmask
