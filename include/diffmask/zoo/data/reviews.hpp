#pragma once
/// \file
/// Texts with ratings, as classes by quantile; and human valences of words.
///
/// Made for the 10,605 movie-review snippets, with the mean rating of 20 people in [-4, 4] each,
/// and the lexicon of Hutto and Gilbert: "VADER: A parsimonious rule-based model for sentiment
/// analysis of social media text", ICWSM 2014 (package vaderSentiment).

#include <ATen/core/Generator.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "diffmask/data/dataset.hpp"
#include "diffmask/zoo/data/words.hpp"

namespace diffmask {

struct Review {
  std::vector<Word> words;
  double rating = 0.0;
};

/// Reads lines of text<TAB>rating, or of id<TAB>rating<TAB>text; the first line decides which.
/// FileError names a broken line: another number of fields, a rating that is no number, a text
/// without a word or not in UTF-8.
std::vector<Review> read_reviews(const std::string& path);

/// Reads lines of word<TAB>valence<TAB>...; valence by word form.
std::map<std::string, double> read_lexicon(const std::string& path);

/// The inner borders of `classes` quantiles: classes - 1 of them, ascending.
std::vector<double> quantile_borders(std::vector<double> values, int64_t classes);

/// The number of borders that are < value: 0..classes - 1.
int64_t quantile_class(double value, const std::vector<double>& borders);

/// A data set of some reviews: inputs word numbers (B, T) and mask (B, T); labels the ratings'
/// classes.
PaddedDataset review_dataset(const std::vector<Review>& reviews, const Vocabulary& vocabulary,
                             const std::vector<double>& borders);

}  // namespace diffmask
