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

}  // namespace diffmask
