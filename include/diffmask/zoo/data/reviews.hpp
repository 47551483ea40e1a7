#pragma once
/// \file
/// Texts with ratings, classified by quantile; and human valences of words.
///
/// Made for the 10,605 movie-review snippets, each with the mean rating of 20 people in [-4, 4],
/// and the lexicon of Hutto and Gilbert, "VADER: A parsimonious rule-based model for sentiment
/// analysis of social media text", ICWSM 2014 (package vaderSentiment).
///
///     const std::vector<Review> reviews = read_reviews("movie_reviews.tsv");
///     const Vocabulary vocabulary(texts, /*least=*/2);   // texts: the reviews' words
///     const std::vector<double> borders = quantile_borders(ratings, /*classes=*/5);
///     const PaddedDataset data = review_dataset(reviews, vocabulary, borders);

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

}  // namespace diffmask
