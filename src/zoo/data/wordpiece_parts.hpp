#pragma once
/// \file
/// What the sources of WordPiece share: the special tokens, and the characters of a text as the
/// tokenizer sees them.

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "diffmask/zoo/data/wordpiece.hpp"

namespace diffmask::wordpiece {

inline constexpr std::array<std::string_view, 5> kSpecial = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",
                                                             "[MASK]"};
inline constexpr int64_t kLongestWord = 100;  ///< in characters; a longer word becomes [UNK]

/// A character of the normalised text, and the bytes of the original text that it stands for.
struct Letter {
  int32_t code;
  int64_t begin, end;
};

/// The text cleaned, in lower case and without accents, as the options say. `offset` is added to
/// all bytes; ill-formed sequences are counted in `invalid`.
std::vector<Letter> normalise(std::string_view text, int64_t offset,
                              const WordPieceOptions& options, int64_t& invalid);

/// Of a normalised text.
bool is_space(int32_t code);
bool is_punctuation(int32_t code);

}  // namespace diffmask::wordpiece
