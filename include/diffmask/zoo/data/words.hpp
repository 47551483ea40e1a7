#pragma once
/// \file
/// Words of a text, and their numbers.

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace diffmask {

struct Word {
  std::string text;  ///< as it is written
  std::string form;  ///< NFKC-normalised and case-folded (Unicode): what is looked up
};

/// Letters, digits and marks make words, with single apostrophes and hyphens within; any other
/// visible character is a word of its own. ArgumentError for text that is not UTF-8.
std::vector<Word> words(std::string_view text);

/// Numbers for word forms: 0 is padding, 1 any unknown word, the others in order of first
/// appearance.
class Vocabulary {
 public:
  static constexpr int64_t kPadding = 0, kUnknown = 1;

  /// Takes each form that appears `least` times or more in the texts.
  Vocabulary(const std::vector<std::vector<Word>>& texts, int64_t least);

  int64_t size() const { return static_cast<int64_t>(ids_.size()) + 2; }
  int64_t id(const std::string& form) const;

 private:
  std::unordered_map<std::string, int64_t> ids_;
};

}  // namespace diffmask
