#include "zoo/data/utf8.hpp"

#include <utf8proc.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace diffmask {
namespace {

size_t ill_formed_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0; };
  const int lead = byte(0);
  size_t wanted = 1;
  if (lead >= 0xC2 && lead <= 0xF4) wanted = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte has fewer allowed values where others would make an overlong form, a surrogate
  // or a code beyond Unicode.
  int low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  int high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  size_t length = 1;
  while (length < wanted && byte(length) >= low && byte(length) <= high) {
    ++length;
    low = 0x80, high = 0xBF;
  }
  return length;
}

}  // namespace

std::vector<Character> decode_utf8(std::string_view text, int64_t& invalid) {
  std::vector<Character> result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    utf8proc_int32_t code = static_cast<uint8_t>(text[at]);
    size_t length = 1;
    if (code >= 0x80) {
      const auto read =
          utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                           static_cast<utf8proc_ssize_t>(text.size() - at), &code);
      length = read > 0 ? static_cast<size_t>(read) : ill_formed_length(text.substr(at));
      if (read <= 0) {
        code = kReplacement;
        ++invalid;
      }
    }
    result.push_back({code, static_cast<int64_t>(at), static_cast<int64_t>(at + length)});
    at += length;
  }
  return result;
}

void append_utf8(std::string& text, int32_t code) {
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(code, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
}

}  // namespace diffmask
