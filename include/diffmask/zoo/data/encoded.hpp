#pragma once
/// \file
/// Texts as a tokenizer has encoded them, for encoders of the BERT family.
///
///     inputs   ids (B, T), attention mask (B, T), and types (B, T) where some text is a pair
///     mask     (B, T): the tokens to be explained (those that frame a text only if asked for)
///     groups   (B, T), if asked for: the word that a token is a part of

#include <cstdint>
#include <vector>

#include "diffmask/data/dataset.hpp"
#include "diffmask/zoo/data/wordpiece.hpp"

namespace diffmask {

struct EncodedOptions {
  /// Whether the tokens that frame a text, [CLS] and [SEP], may be masked; if not, they are kept.
  bool explain_special = false;
  bool tie_words = false;  ///< sub-words of a word share one gate (Batch::groups)
  int64_t padding = 0;     ///< the id that fills a batch up to its longest text
};

class EncodedDataset : public Dataset {
 public:
  /// ArgumentError for a text without a token to be explained. Shape: labels (N, ...), optional.
  explicit EncodedDataset(std::vector<Encoding> encodings, at::Tensor labels = {},
                          EncodedOptions options = {});

  int64_t size() const override { return static_cast<int64_t>(encodings_.size()); }
  int64_t length(int64_t example) const override;
  Batch batch(const std::vector<int64_t>& examples) const override;

  const std::vector<Encoding>& encodings() const { return encodings_; }
  const at::Tensor& labels() const { return labels_; }
  const EncodedOptions& options() const { return options_; }

 private:
  std::vector<Encoding> encodings_;
  at::Tensor labels_;
  EncodedOptions options_;
  bool has_pairs_ = false;
};

/// A number a word of a text's only or first part, 0..words - 1: the mean over its tokens; 0 for a
/// word without one. Shape: values (T), floating point, T >= the encoding's size.
std::vector<double> word_means(const Encoding& encoding, const at::Tensor& values, int64_t words);

}  // namespace diffmask
