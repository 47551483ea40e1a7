#include "diffmask/zoo/data/words.hpp"

#include <fmt/format.h>
#include <utf8proc.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

std::string fold(const std::string& text) {
  utf8proc_uint8_t* folded =
      utf8proc_NFKC_Casefold(reinterpret_cast<const utf8proc_uint8_t*>(text.c_str()));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(folded, std::free);
  return folded ? reinterpret_cast<const char*>(folded) : text;
}

bool makes_words(utf8proc_int32_t c) {
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return true;
    default:
      return false;
  }
}

bool invisible(utf8proc_int32_t c) {
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CN:
      return true;
    default:
      return false;
  }
}

bool joins_words(utf8proc_int32_t c) { return c == '\'' || c == 0x2019 || c == '-'; }

struct WordCharacter {
  size_t begin, end;
  utf8proc_int32_t code;
};

std::vector<WordCharacter> characters(std::string_view text) {
  std::vector<WordCharacter> result;
  for (size_t at = 0; at < text.size();) {
    utf8proc_int32_t code = 0;
    const auto size = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                                       static_cast<utf8proc_ssize_t>(text.size() - at), &code);
    if (size <= 0) {
      throw ArgumentError(
          "text", "UTF-8",
          fmt::format("byte 0x{:02x} at {}", static_cast<unsigned char>(text[at]), at));
    }
    result.push_back({at, at + static_cast<size_t>(size), code});
    at += static_cast<size_t>(size);
  }
  return result;
}

}  // namespace

std::vector<Word> words(std::string_view text) {
  const std::vector<WordCharacter> all = characters(text);
  const auto in_word = [&](size_t i) { return i < all.size() && makes_words(all[i].code); };
  std::vector<Word> result;
  for (size_t i = 0; i < all.size();) {
    size_t next = i + 1;
    if (in_word(i)) {
      while (in_word(next) ||
             (next < all.size() && joins_words(all[next].code) && in_word(next + 1))) {
        ++next;
      }
    }
    if (!invisible(all[i].code)) {
      Word word{std::string(text.substr(all[i].begin, all[next - 1].end - all[i].begin)), {}};
      word.form = fold(word.text);
      // A lone variation selector or joiner is invisible and folds to nothing.
      if (!word.form.empty()) result.push_back(std::move(word));
    }
    i = next;
  }
  return result;
}

Vocabulary::Vocabulary(const std::vector<std::vector<Word>>& texts, int64_t least) {
  require(least >= 1, "least", ">= 1", least);
  std::unordered_map<std::string, int64_t> counts;
  for (const auto& text : texts) {
    for (const Word& word : text) ++counts[word.form];
  }
  for (const auto& text : texts) {
    for (const Word& word : text) {
      if (counts[word.form] >= least) ids_.emplace(word.form, size());
    }
  }
}

int64_t Vocabulary::id(const std::string& form) const {
  const auto found = ids_.find(form);
  return found == ids_.end() ? kUnknown : found->second;
}

}  // namespace diffmask
