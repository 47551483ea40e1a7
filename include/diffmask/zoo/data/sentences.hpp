#pragma once
/// \file
/// Labelled sentences, as they are and as an encoder reads them.
///
///     const Sentences test = encode_sentences(read_trees("trees/test.txt"), tokenizer);
///     const auto scores = data_scores(method, test.data);
///     const std::vector<double> means = survival_by_sentiment(test, scores);

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "diffmask/zoo/data/encoded.hpp"
#include "diffmask/zoo/data/reviews.hpp"
#include "diffmask/zoo/data/trees.hpp"
#include "diffmask/zoo/data/wordpiece.hpp"

namespace diffmask {

struct Sentences {
  std::vector<LabelledSentence> sentences;
  EncodedDataset data;  ///< the same, in the same order; its labels are the sentences'
};

/// The options' padding is the tokenizer's, whatever it is given as.
Sentences encode_sentences(std::vector<LabelledSentence> sentences, const WordPiece& tokenizer,
                           EncodedOptions options = {});

struct SentenceParts {
  std::vector<LabelledSentence> training, development, test;
};

/// From a folder of the treebank, its train.txt, dev.txt and test.txt; from a file of reviews, the
/// parts of split_reviews as `review_sentences` makes them, by the lexicon's file if one is named.
SentenceParts read_sentence_parts(const std::string& path, const std::string& lexicon = "");

/// Reviews as if they were a treebank's sentences: ratings in quintiles of those to train on, words
/// by their valence.
SentenceParts review_sentences(const std::vector<Review>& reviews,
                               const std::map<std::string, double>& lexicon);

/// The mean number of depths that a word survives, by its own sentiment (0..4): the sum over depths
/// of P(z != 0), the mean over a word's tokens. NaN for a sentiment that no word has.
/// Shape: scores (T, D) per sentence, as data_scores gives them.
std::vector<double> survival_by_sentiment(const Sentences& sentences,
                                          const std::vector<at::Tensor>& scores);

/// The tokens that are explained, in order: what a heatmap calls its positions.
/// Shape: mask (T) bool, T >= the encoding's size.
std::vector<std::string> token_names(const WordPiece& tokenizer, const Encoding& encoding,
                                     const at::Tensor& mask);

}  // namespace diffmask
