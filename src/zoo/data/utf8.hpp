#pragma once
/// \file
/// The characters of a UTF-8 text, with their bytes.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace diffmask {

constexpr int32_t kReplacement = 0xFFFD;  ///< stands for bytes that are not UTF-8

struct Character {
  int32_t code;
  int64_t begin, end;  ///< bytes of the text
};

/// Never fails: each ill-formed sequence becomes a kReplacement and is counted in `invalid`. As
/// Unicode recommends, such a sequence ends where it can no longer become a character.
std::vector<Character> decode_utf8(std::string_view text, int64_t& invalid);

void append_utf8(std::string& text, int32_t code);

}  // namespace diffmask
