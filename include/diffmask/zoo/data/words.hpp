#pragma once
/// \file
/// The words of a text, and numbers for them.
///
///     const std::vector<Word> text = words("A fine film.");
///     const Vocabulary vocabulary({text}, /*least=*/1);
///     const int64_t id = vocabulary.id(text.at(1).form);

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace diffmask {

struct Word {
  std::string text;  ///< as written
  std::string form;  ///< NFKC-normalised and case-folded, as vocabularies hold it
};

/// Words are made of letters, digits and marks, with single apostrophes and hyphens within; any
/// other visible character is a word by itself. ArgumentError for text that is not UTF-8.
std::vector<Word> words(std::string_view text);

/// Numbers for word forms: 0 is padding, 1 is any unknown word, the others follow in order of first
/// appearance.
class Vocabulary {
 public:
  static constexpr int64_t kPadding = 0, kUnknown = 1;

  /// Holds each form that appears at least `least` times in the texts.
  Vocabulary(const std::vector<std::vector<Word>>& texts, int64_t least);

  int64_t size() const { return static_cast<int64_t>(ids_.size()) + 2; }
  int64_t id(const std::string& form) const;

 private:
  std::unordered_map<std::string, int64_t> ids_;
};

}  // namespace diffmask
