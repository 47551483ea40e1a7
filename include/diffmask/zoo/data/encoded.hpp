#pragma once
/// \file
/// Texts as a tokenizer has encoded them, for encoders of the BERT family.
///
///     inputs   ids (B, T), attention mask (B, T), and types (B, T) if any text is a pair
///     mask     (B, T): the tokens to be explained; [CLS] and [SEP] only with explain_special
///     groups   (B, T), with tie_words: the word that a token is a part of
///
///     const WordPiece tokenizer = WordPiece::load("models/sst2");
///     const EncodedDataset data({tokenizer.encode("A fine film.")}, at::tensor({1}),
///                               {.tie_words = true, .padding = tokenizer.padding()});

#include <cstdint>
#include <vector>

#include "diffmask/data/dataset.hpp"
#include "diffmask/zoo/data/wordpiece.hpp"

namespace diffmask {

struct EncodedOptions {
  bool explain_special = false;  ///< whether [CLS] and [SEP] may be masked; if not, they are kept
  bool tie_words = false;        ///< whether the sub-words of a word share a gate (Batch::groups)
  int64_t padding = 0;           ///< the id that pads a batch to its longest text
};

class EncodedDataset : public Dataset {
 public:
  /// ArgumentError if a text has no token to explain. Shape: labels (N, ...), optional.
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

/// For each of the words 0..words - 1 of a text, or of the first text of a pair, the mean of
/// `values` over the word's tokens; 0 for a word without a token.
/// Shape: values (T), floating point, T >= the encoding's size.
std::vector<double> word_means(const Encoding& encoding, const at::Tensor& values, int64_t words);

}  // namespace diffmask
