#pragma once
/// \file
/// The characters of a text, with the bytes that they stand in.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace diffmask {

constexpr int32_t kReplacement = 0xFFFD;  ///< what stands for bytes that are not UTF-8

struct Character {
  int32_t code;
  int64_t begin, end;  ///< bytes of the text
};

/// Never fails: each ill-formed sequence becomes a kReplacement and is counted in `invalid`. As
/// Unicode recommends, such a sequence is as long as it could still have become a character.
std::vector<Character> decode_utf8(std::string_view text, int64_t& invalid);

void append_utf8(std::string& text, int32_t code);

}  // namespace diffmask
