// The added tokens of a WordPiece tokenizer, by the rules of Hugging Face's tokenizers library.
#include <utf8proc.h>

#include <cstdint>
#include <span>
#include <vector>

#include "zoo/data/utf8.hpp"
#include "zoo/data/wordpiece_parts.hpp"

namespace diffmask::wordpiece {
namespace {

// Unicode's White_Space; `is_space` is for texts that were cleaned.
bool is_white(int32_t code) {
  constexpr int32_t kNextLine = 0x85;
  return is_space(code) || code == '\v' || code == '\f' || code == kNextLine;
}

// What \w means in Unicode's regular expressions: letters, marks, digits, connectors and joiners.
bool is_word_character(int32_t code) {
  constexpr int32_t kNonJoiner = 0x200C, kJoiner = 0x200D;
  if (code == kNonJoiner || code == kJoiner) return true;
  // Letters in circles and squares are symbols that count as letters.
  if ((code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) ||
      (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189)) {
    return true;
  }
  const auto category = utf8proc_category(code);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
         category == UTF8PROC_CATEGORY_PC;
}

}  // namespace

void AddedTokens::add(std::span<const Character> content, int64_t id, const AddedToken& rules) {
  size_t node = 0;
  for (const Character& character : content) {
    const auto [next, is_new] = nodes_[node].next.emplace(character.code, nodes_.size());
    node = next->second;
    if (is_new) nodes_.emplace_back();
  }
  if (nodes_[node].token >= 0) return;
  nodes_[node].token = static_cast<int64_t>(tokens_.size());
  tokens_.push_back({id, rules.single_word, rules.lstrip, rules.rstrip});
}

std::vector<AddedTokens::Match> AddedTokens::find(std::span<const Character> text) const {
  std::vector<Match> matches;
  size_t taken = 0;  // characters that belong to earlier matches
  for (size_t at = 0; at < text.size();) {
    int64_t token = -1;
    size_t node = 0, stop = at;
    for (size_t i = at; i < text.size(); ++i) {
      const auto next = nodes_[node].next.find(text[i].code);
      if (next == nodes_[node].next.end()) break;
      node = next->second;
      if (nodes_[node].token >= 0) token = nodes_[node].token, stop = i + 1;
    }
    if (token < 0) {
      ++at;
      continue;
    }
    size_t start = at, end = stop;
    at = stop;
    const Token& rules = tokens_[token];
    const bool touches = (start > 0 && is_word_character(text[start - 1].code)) ||
                         (end < text.size() && is_word_character(text[end].code));
    if (rules.single_word && touches) continue;
    if (rules.lstrip) {
      while (start > taken && is_white(text[start - 1].code)) --start;
    }
    if (rules.rstrip) {
      while (end < text.size() && is_white(text[end].code)) ++end;
    }
    matches.push_back({rules.id, text.subspan(start, end - start)});
    taken = end;
  }
  return matches;
}

}  // namespace diffmask::wordpiece
