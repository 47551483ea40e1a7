#pragma once
/// \file
/// Texts with ratings, classified by quantile; and human valences of words.
///
/// Made for the 10,605 movie-review snippets, each with the mean rating of 20 people in [-4, 4],
/// and the lexicon of Hutto and Gilbert, "VADER: A parsimonious rule-based model for sentiment
/// analysis of social media text", ICWSM 2014 (package vaderSentiment).
///
///     const ReviewParts parts = split_reviews(read_reviews("movie_reviews.tsv"));
///     const ReviewDatasets data = review_datasets(parts, /*classes=*/5);
///     const Batch batch = data.held_out.batch({0, 1});

#include <ATen/core/Generator.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/zoo/data/trees.hpp"
#include "diffmask/zoo/data/words.hpp"

namespace diffmask {

struct Review {
  std::vector<Word> words;
  double rating = 0.0;
};

/// Reads lines of text<TAB>rating or of id<TAB>rating<TAB>text; the first line decides which.
/// FileError names a broken line: a wrong number of fields, a rating that is not a number, a text
/// that has no word or is not UTF-8.
std::vector<Review> read_reviews(const std::string& path);

/// Reads lines of word<TAB>valence<TAB>...; gives the valence of each word form.
std::map<std::string, double> read_lexicon(const std::string& path);

/// The classes - 1 borders between `classes` quantiles, ascending.
std::vector<double> quantile_borders(std::vector<double> values, int64_t classes);

/// The class of a value, 0..classes - 1: the number of borders below it.
int64_t quantile_class(double value, const std::vector<double>& borders);

/// The reviews as a data set with inputs words (B, T) int64 and mask (B, T); labels are the classes
/// of the ratings.
PaddedDataset review_dataset(const std::vector<Review>& reviews, const Vocabulary& vocabulary,
                             const std::vector<double>& borders);

struct ReviewParts {
  std::vector<Review> training, development, held_out;
};

/// The same parts on every run, whatever the seed: 80 % to train on, 10 % to select on, 10 % held
/// out. ArgumentError for fewer than 50 reviews.
ReviewParts split_reviews(const std::vector<Review>& reviews);

/// The parts as a classifier reads them: words that the training part has at least `least` times,
/// ratings in quantiles of the training part's.
struct ReviewDatasets {
  Vocabulary vocabulary;
  std::vector<double> borders;
  PaddedDataset training, development, held_out;
};

ReviewDatasets review_datasets(const ReviewParts& parts, int64_t classes, int64_t least = 2);

/// The ratings, in order.
std::vector<double> ratings_of(const std::vector<Review>& reviews);

/// 0..4 from very negative (a valence of -2 or less) to very positive (2 or more); 2 for a word
/// that the lexicon does not have.
int64_t valence_class(const std::map<std::string, double>& lexicon, const std::string& form);

/// The names of these classes: "very negative", "negative", "none", "positive", "very positive".
const std::vector<std::string>& valence_names();

/// The reviews as if they were sentences of a treebank (trees.hpp): their labels are the classes of
/// the ratings, their words' labels the valences. They have no phrases.
std::vector<LabelledSentence> labelled_sentences(const std::vector<Review>& reviews,
                                                 const std::vector<double>& borders,
                                                 const std::map<std::string, double>& lexicon);

/// A picture of each of the first N reviews, titled by its predicted class and its own.
/// Shape: predicted, labels (N) int64; the attribution has N rows or more, in the reviews' order.
std::vector<Heatmap> review_heatmaps(const Attribution& attribution,
                                     const std::vector<Review>& reviews,
                                     const std::vector<std::string>& class_names,
                                     const at::Tensor& predicted, const at::Tensor& labels);

/// The mean number of depths that a word of each valence class survives; NaN where there is none.
/// The attribution is of these reviews, in this order.
std::vector<double> survival_by_valence(const Attribution& attribution,
                                        const std::vector<Review>& reviews,
                                        const std::map<std::string, double>& lexicon);

}  // namespace diffmask
