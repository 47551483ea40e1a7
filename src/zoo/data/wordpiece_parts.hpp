#pragma once
/// \file
/// What the sources of WordPiece share: the special tokens, the characters of a text as the
/// tokenizer sees them, and the tokens that are found in it before it is split into words.

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "diffmask/zoo/data/wordpiece.hpp"
#include "zoo/data/utf8.hpp"

namespace diffmask::wordpiece {

inline constexpr std::array<std::string_view, 5> kSpecial = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",
                                                             "[MASK]"};
inline constexpr int64_t kLongestWord = 100;  ///< in characters; a longer word becomes [UNK]

/// The text cleaned, in lower case and without accents, as the options say. Each character keeps
/// the bytes of the original text that it stands for.
std::vector<Character> normalise(std::span<const Character> text, const WordPieceOptions& options);

/// Of a normalised text.
bool is_space(int32_t code);
bool is_punctuation(int32_t code);

/// A set of added tokens, and where a text holds them.
class AddedTokens {
 public:
  /// `content` as it is to be found; the first of two with the same content counts.
  void add(std::span<const Character> content, int64_t id, const AddedToken& rules);

  struct Match {
    int64_t id;
    std::span<const Character> text;  ///< with the white space that the token takes
  };
  /// From left to right; of the tokens that begin at one place, the longest.
  std::vector<Match> find(std::span<const Character> text) const;

 private:
  struct Token {
    int64_t id;
    bool single_word, lstrip, rstrip;
  };
  struct Node {
    std::map<int32_t, size_t> next;
    int64_t token = -1;
  };

  std::vector<Token> tokens_;
  std::vector<Node> nodes_ = {{}};
};

}  // namespace diffmask::wordpiece
