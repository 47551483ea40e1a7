// The film reviews as the examples divide them, and the valence of their words.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/zoo/data/reviews.hpp"

// The same parts on every run, whatever the seed: 80 % to train, 10 % to select on, 10 % held out.
struct ReviewParts {
  std::vector<diffmask::Review> training, development, held_out;
};

inline ReviewParts split_reviews(const std::vector<diffmask::Review>& reviews) {
  const auto size = static_cast<int64_t>(reviews.size());
  diffmask::require(size >= 50, "data", "of at least 50 reviews", size);
  ReviewParts parts;
  for (const int64_t i : diffmask::shuffled(size, diffmask::make_generator(0))) {
    const int64_t placed = static_cast<int64_t>(parts.training.size() + parts.development.size());
    auto& part = placed < size * 8 / 10   ? parts.training
                 : placed < size * 9 / 10 ? parts.development
                                          : parts.held_out;
    part.push_back(reviews[static_cast<size_t>(i)]);
  }
  return parts;
}

// 0..4 from very negative to very positive; words that the lexicon does not have are neither.
inline int64_t valence_class(const std::map<std::string, double>& lexicon,
                             const std::string& form) {
  const auto found = lexicon.find(form);
  if (found == lexicon.end()) return 2;
  return found->second <= -2 ? 0 : found->second < 0 ? 1 : found->second < 2 ? 3 : 4;
}
