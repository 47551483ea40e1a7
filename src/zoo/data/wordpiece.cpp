#include "diffmask/zoo/data/wordpiece.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "zoo/data/utf8.hpp"
#include "zoo/data/wordpiece_parts.hpp"

namespace diffmask {

using wordpiece::kLongestWord;
using wordpiece::Letter;

namespace {

// The special token that the text begins with, or "".
std::string_view special_at(std::string_view text) {
  for (const std::string_view token : wordpiece::kSpecial) {
    if (text.starts_with(token)) return token;
  }
  return "";
}

}  // namespace

void WordPieceOptions::validate() const { require(longest >= 3, "longest", ">= 3", longest); }

WordPiece::WordPiece(std::vector<std::string> tokens, WordPieceOptions options,
                     const std::string& source)
    : tokens_(std::move(tokens)), options_(options) {
  options_.validate();
  for (int64_t id = 0; id < size(); ++id) {
    std::string_view piece = tokens_[id];
    Pieces& pieces = piece.starts_with("##") ? continuations_ : starts_;
    if (piece.starts_with("##")) piece.remove_prefix(2);
    const auto [other, is_new] = pieces.ids.emplace(piece, id);
    if (!is_new) {
      throw FileError(source, id + 1,
                      fmt::format("the token '{}' has to be listed once, but is in line {} too",
                                  tokens_[id], other->second + 1));
    }
    pieces.longest = std::max(pieces.longest, piece.size());
  }
  const auto special = [&](std::string_view token) {
    const auto found = starts_.ids.find(token);
    if (found == starts_.ids.end()) {
      throw FileError(source, fmt::format("has to hold the special token {}, but does not", token));
    }
    return found->second;
  };
  padding_ = special("[PAD]");
  unknown_ = special("[UNK]");
  classification_ = special("[CLS]");
  separator_ = special("[SEP]");
  mask_ = special("[MASK]");
}

void WordPiece::add_word(const Letter* begin, const Letter* end, int64_t word, Encoding& to) const {
  const auto add = [&](int64_t id, ByteSpan bytes) {
    to.ids.push_back(id);
    to.words.push_back(word);
    to.bytes.push_back(bytes);
  };
  const size_t before = to.ids.size();
  const auto give_up = [&] {
    to.ids.resize(before);
    to.words.resize(before);
    to.bytes.resize(before);
    add(unknown_, {begin->begin, (end - 1)->end});
  };
  if (end - begin > kLongestWord) return give_up();
  std::string text;
  std::array<size_t, kLongestWord + 1> ends = {};  // bytes of the first i letters
  for (int64_t i = 0; i < end - begin; ++i) {
    append_utf8(text, begin[i].code);
    ends[i + 1] = text.size();
  }
  for (int64_t at = 0; at < end - begin;) {
    const Pieces& pieces = at == 0 ? starts_ : continuations_;
    auto found = pieces.ids.end();
    int64_t next = end - begin;
    for (; next > at && found == pieces.ids.end(); --next) {
      const size_t size = ends[next] - ends[at];
      if (size <= pieces.longest)
        found = pieces.ids.find(std::string_view(text).substr(ends[at], size));
    }
    if (found == pieces.ids.end()) return give_up();
    ++next;
    add(found->second, {begin[at].begin, begin[next - 1].end});
    at = next;
  }
}

void WordPiece::add_part(std::string_view text, int64_t offset, int64_t& word, Encoding& to) const {
  const std::vector<Letter> letters = wordpiece::normalise(text, offset, options_, to.invalid);
  const Letter* const end = letters.data() + letters.size();
  for (const Letter* at = letters.data(); at != end;) {
    const Letter* next = at + 1;
    if (wordpiece::is_space(at->code)) {
      at = next;
      continue;
    }
    if (!wordpiece::is_punctuation(at->code)) {
      while (next != end && !wordpiece::is_space(next->code) &&
             !wordpiece::is_punctuation(next->code))
        ++next;
    }
    add_word(at, next, word++, to);
    at = next;
  }
}

void WordPiece::add_text(std::string_view text, Encoding& to) const {
  int64_t word = 0;
  size_t begin = 0;
  for (size_t at = text.find('['); at != std::string_view::npos; at = text.find('[', at)) {
    const std::string_view special = special_at(text.substr(at));
    if (special.empty()) {
      ++at;
      continue;
    }
    add_part(text.substr(begin, at - begin), static_cast<int64_t>(begin), word, to);
    begin = at + special.size();
    to.ids.push_back(id(special));
    to.words.push_back(word++);
    to.bytes.push_back({static_cast<int64_t>(at), static_cast<int64_t>(begin)});
    at = begin;
  }
  add_part(text.substr(begin), static_cast<int64_t>(begin), word, to);
}

Encoding WordPiece::encode(std::string_view text) const {
  Encoding result;
  add_text(text, result);
  fit(result, 0, 2);
  frame(result, result.size());
  return result;
}

Encoding WordPiece::encode(std::string_view first, std::string_view second) const {
  Encoding result;
  add_text(first, result);
  const int64_t border = result.size();
  add_text(second, result);
  fit(result, border, 3);
  frame(result, border, /*is_pair=*/true);
  return result;
}

Encoding WordPiece::encode_words(const std::vector<std::string>& words) const {
  Encoding result;
  for (size_t i = 0; i < words.size(); ++i) {
    const size_t begin = result.words.size();
    add_text(words[i], result);
    std::fill(result.words.begin() + begin, result.words.end(), static_cast<int64_t>(i));
  }
  fit(result, 0, 2);
  frame(result, result.size());
  return result;
}

int64_t WordPiece::id(std::string_view token) const {
  const bool continues = token.starts_with("##");
  const auto& ids = continues ? continuations_.ids : starts_.ids;
  const auto found = ids.find(token.substr(continues ? 2 : 0));
  return found == ids.end() ? unknown_ : found->second;
}

const std::string& WordPiece::token(int64_t id) const {
  require(id >= 0 && id < size(), "id", fmt::format("in 0..{}", size() - 1), id);
  return tokens_[id];
}

// Cuts an encoding that still lacks `framing` special tokens to the allowed length. The first
// `kept` tokens are not cut, and have to leave room for at least one more.
void WordPiece::fit(Encoding& encoding, int64_t kept, int64_t framing) const {
  const int64_t room = options_.longest - framing;
  if (encoding.size() <= room) return;
  require(kept < room, "first", fmt::format("fewer than {} tokens long", room), kept);
  require(options_.overflow == WordPieceOptions::Overflow::truncate, "text",
          fmt::format("at most {} tokens long, beside {} special ones", room, framing),
          encoding.size());
  encoding.cut = encoding.size() - room;
  encoding.ids.resize(room);
  encoding.words.resize(room);
  encoding.bytes.resize(room);
}

// Adds [CLS], a [SEP] after the first `border` tokens and, for a pair, a [SEP] at the end.
void WordPiece::frame(Encoding& encoding, int64_t border, bool is_pair) const {
  const auto insert = [&](int64_t at, int64_t id) {
    encoding.ids.insert(encoding.ids.begin() + at, id);
    encoding.words.insert(encoding.words.begin() + at, -1);
    encoding.bytes.insert(encoding.bytes.begin() + at, ByteSpan{});
  };
  insert(0, classification_);
  insert(border + 1, separator_);
  if (is_pair) insert(encoding.size(), separator_);
  encoding.types.assign(encoding.ids.size(), 1);
  std::fill_n(encoding.types.begin(), border + 2, 0);
}

}  // namespace diffmask
