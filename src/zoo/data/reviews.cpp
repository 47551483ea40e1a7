#include <ATen/ATen.h>
#include <fmt/format.h>

#include "diffmask/zoo/data/reviews.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/metrics/agreement.hpp"

namespace diffmask {
namespace {

double parse_number(const std::string& path, int64_t line, const std::string& name,
                    const std::string& text) {
  double value = NAN;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    throw FileError(path, line,
                    fmt::format("{} has to be a finite number, but got '{}'", name, text));
  }
  return value;
}

std::vector<Word> parse_words(const std::string& path, int64_t line, const std::string& text) {
  try {
    return words(text);
  } catch (const ArgumentError& error) {
    throw FileError(path, line, error.what());
  }
}

}  // namespace

std::vector<Review> read_reviews(const std::string& path) {
  std::vector<Review> reviews;
  size_t columns = 0;
  int64_t number = 0;
  for (const std::string& line : read_lines(path)) {
    ++number;
    const std::vector<std::string> fields = split(line, '\t');
    if (columns == 0) columns = fields.size() == 2 ? 2 : 3;
    if (fields.size() != columns) {
      throw FileError(
          path, number,
          fmt::format("has to hold {}, but got {} fields",
                      columns == 2 ? "text<TAB>rating" : "id<TAB>rating<TAB>text", fields.size()));
    }
    Review review;
    review.rating = parse_number(path, number, "the rating", fields[1]);
    review.words = parse_words(path, number, fields[columns == 2 ? 0 : 2]);
    if (review.words.empty())
      throw FileError(path, number, "has to hold a text of at least one word");
    reviews.push_back(std::move(review));
  }
  if (reviews.empty()) throw FileError(path, "has no reviews");
  return reviews;
}

std::map<std::string, double> read_lexicon(const std::string& path) {
  std::map<std::string, double> valences;
  int64_t number = 0;
  for (const std::string& line : read_lines(path)) {
    ++number;
    const std::vector<std::string> fields = split(line, '\t');
    if (fields.size() < 2) throw FileError(path, number, "has to hold word<TAB>valence");
    const double valence = parse_number(path, number, "the valence", fields[1]);
    // Emoticons are several words here, none of which has the valence of the whole.
    const std::vector<Word> word = parse_words(path, number, fields[0]);
    if (word.size() == 1) valences[word[0].form] = valence;
  }
  return valences;
}

std::vector<double> quantile_borders(std::vector<double> values, int64_t classes) {
  require(classes >= 2, "classes", ">= 2", classes);
  require(static_cast<int64_t>(values.size()) >= classes, "values",
          fmt::format("at least {}, one per class", classes), values.size());
  std::sort(values.begin(), values.end());
  std::vector<double> borders;
  for (int64_t c = 1; c < classes; ++c) {
    borders.push_back(
        values[values.size() * static_cast<size_t>(c) / static_cast<size_t>(classes)]);
  }
  require(std::adjacent_find(borders.begin(), borders.end()) == borders.end(), "values",
          fmt::format("of {} different quantiles", classes), "equal ones");
  return borders;
}

int64_t quantile_class(double value, const std::vector<double>& borders) {
  return std::lower_bound(borders.begin(), borders.end(), value) - borders.begin();
}

PaddedDataset review_dataset(const std::vector<Review>& reviews, const Vocabulary& vocabulary,
                             const std::vector<double>& borders) {
  require(!reviews.empty(), "reviews", "at least one", "none");
  std::vector<int64_t> lengths, labels;
  for (const Review& review : reviews) {
    lengths.push_back(static_cast<int64_t>(review.words.size()));
    labels.push_back(quantile_class(review.rating, borders));
  }
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  at::Tensor ids = at::full({static_cast<int64_t>(reviews.size()), longest}, Vocabulary::kPadding,
                            at::TensorOptions(at::kLong));
  auto cells = ids.accessor<int64_t, 2>();
  for (size_t i = 0; i < reviews.size(); ++i) {
    for (size_t t = 0; t < reviews[i].words.size(); ++t)
      cells[i][t] = vocabulary.id(reviews[i].words[t].form);
  }
  return PaddedDataset({{ids, /*is_sequence=*/true}}, at::tensor(lengths), at::tensor(labels));
}

ReviewParts split_reviews(const std::vector<Review>& reviews) {
  const auto size = static_cast<int64_t>(reviews.size());
  require(size >= 50, "reviews", "at least 50", size);
  ReviewParts parts;
  int64_t placed = 0;
  for (const int64_t i : shuffled(size, make_generator(0))) {
    auto& part = placed < size * 8 / 10   ? parts.training
                 : placed < size * 9 / 10 ? parts.development
                                          : parts.held_out;
    part.push_back(reviews[static_cast<size_t>(i)]);
    ++placed;
  }
  return parts;
}

ReviewDatasets review_datasets(const ReviewParts& parts, int64_t classes, int64_t least) {
  std::vector<std::vector<Word>> texts;
  for (const Review& review : parts.training) texts.push_back(review.words);
  const Vocabulary vocabulary(texts, least);
  const auto borders = quantile_borders(ratings_of(parts.training), classes);
  const auto data = [&](const std::vector<Review>& part) {
    return review_dataset(part, vocabulary, borders);
  };
  return {vocabulary, borders, data(parts.training), data(parts.development), data(parts.held_out)};
}

std::vector<double> ratings_of(const std::vector<Review>& reviews) {
  std::vector<double> ratings;
  for (const Review& review : reviews) ratings.push_back(review.rating);
  return ratings;
}

int64_t valence_class(const std::map<std::string, double>& lexicon, const std::string& form) {
  const auto found = lexicon.find(form);
  if (found == lexicon.end()) return 2;
  return found->second <= -2 ? 0 : found->second < 0 ? 1 : found->second < 2 ? 3 : 4;
}

const std::vector<std::string>& valence_names() {
  static const std::vector<std::string> names = {"very negative", "negative", "none", "positive",
                                                 "very positive"};
  return names;
}

std::vector<LabelledSentence> labelled_sentences(const std::vector<Review>& reviews,
                                                 const std::vector<double>& borders,
                                                 const std::map<std::string, double>& lexicon) {
  std::vector<LabelledSentence> sentences;
  for (const Review& review : reviews) {
    LabelledSentence sentence{quantile_class(review.rating, borders), {}, {}};
    for (const Word& word : review.words) {
      sentence.words.push_back(word.text);
      sentence.word_labels.push_back(valence_class(lexicon, word.form));
    }
    sentences.push_back(std::move(sentence));
  }
  return sentences;
}

std::vector<Heatmap> review_heatmaps(const Attribution& attribution,
                                     const std::vector<Review>& reviews,
                                     const std::vector<std::string>& class_names,
                                     const at::Tensor& predicted, const at::Tensor& labels) {
  check_shape("labels", labels, predicted.sizes());
  const auto name = [&](const at::Tensor& label) {
    return class_names.at(static_cast<size_t>(label.item<int64_t>()));
  };
  std::vector<Heatmap> maps;
  for (int64_t i = 0; i < predicted.size(0); ++i) {
    std::vector<std::string> words;
    for (const Word& word : reviews.at(static_cast<size_t>(i)).words) words.push_back(word.text);
    maps.push_back(heatmap(attribution, i, words,
                           fmt::format("Review {}: predicted {}, rated {}", i + 1,
                                       name(predicted[i]), name(labels[i]))));
  }
  return maps;
}

std::vector<double> survival_by_valence(const Attribution& attribution,
                                        const std::vector<Review>& reviews,
                                        const std::map<std::string, double>& lexicon) {
  std::vector<int64_t> classes;
  for (const Review& review : reviews) {
    for (const Word& word : review.words) classes.push_back(valence_class(lexicon, word.form));
  }
  const at::Tensor survived = attribution.depths_survived().index({attribution.mask});
  return means_by_label(survived, at::tensor(classes, at::kLong),
                        static_cast<int64_t>(valence_names().size()));
}

}  // namespace diffmask
