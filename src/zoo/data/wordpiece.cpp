#include "diffmask/zoo/data/wordpiece.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "zoo/data/utf8.hpp"
#include "zoo/data/wordpiece_parts.hpp"

namespace diffmask {

using wordpiece::AddedTokens;
using wordpiece::kLongestWord;

void WordPieceOptions::validate() const { require(longest >= 3, "longest", ">= 3", longest); }

WordPiece::WordPiece(std::vector<std::string> tokens, WordPieceOptions options,
                     const std::string& source)
    : tokens_(std::move(tokens)), options_(std::move(options)) {
  options_.validate();
  read_vocabulary(source);
  take_added(source);
  const auto special = [&](std::string_view token) {
    const auto found = added_.find(token);
    if (found == added_.end()) {
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

void WordPiece::read_vocabulary(const std::string& source) {
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
}

// Numbers the added tokens, and prepares to find them. Of those that look the same, special ones
// are found first.
void WordPiece::take_added(const std::string& source) {
  std::vector<AddedToken> all = options_.added;
  for (const std::string_view token : wordpiece::kSpecial) {
    const bool is_given = std::any_of(
        all.begin(), all.end(), [&](const AddedToken& given) { return given.content == token; });
    if (!is_given && starts_.ids.contains(token)) {
      all.push_back({.content = std::string(token), .special = true, .normalized = false});
    }
  }
  for (const AddedToken& token : all) {
    const auto before = added_.find(token.content);
    const auto known =
        before == added_.end() ? find_piece(token.content) : std::optional(before->second);
    const int64_t id = known.value_or(size());
    if (token.id.value_or(id) != id) {
      throw FileError(
          source,
          fmt::format("the added token '{}' has to have the id {}{}, but got {}", token.content, id,
                      known ? "" : ", the next after the vocabulary", *token.id));
    }
    if (!known) tokens_.push_back(token.content);
    added_.emplace(token.content, id);
  }
  std::stable_partition(all.begin(), all.end(),
                        [](const AddedToken& token) { return token.special; });
  AddedTokens plain, cleaned;
  int64_t invalid = 0;
  for (const AddedToken& token : all) {
    std::vector<Character> content = decode_utf8(token.content, invalid);
    if (token.normalized) content = wordpiece::normalise(content, options_);
    if (content.empty()) {
      throw FileError(source, fmt::format("the added token '{}' has to hold a character that is "
                                          "not left out when texts are cleaned",
                                          token.content));
    }
    (token.normalized ? cleaned : plain).add(content, added_.at(token.content), token);
  }
  plain_ = std::make_shared<const AddedTokens>(std::move(plain));
  cleaned_ = std::make_shared<const AddedTokens>(std::move(cleaned));
}

std::optional<int64_t> WordPiece::find_piece(std::string_view token) const {
  const bool continues = token.starts_with("##");
  const auto& ids = continues ? continuations_.ids : starts_.ids;
  const auto found = ids.find(token.substr(continues ? 2 : 0));
  return found == ids.end() ? std::nullopt : std::optional(found->second);
}

void WordPiece::add_word(std::span<const Character> letters, int64_t word, Encoding& to) const {
  const auto add = [&](int64_t id, std::span<const Character> of) {
    to.ids.push_back(id);
    to.words.push_back(word);
    to.bytes.push_back({of.front().begin, of.back().end});
  };
  const size_t before = to.ids.size();
  const auto give_up = [&] {
    to.ids.resize(before);
    to.words.resize(before);
    to.bytes.resize(before);
    add(unknown_, letters);
  };
  if (letters.size() > kLongestWord) return give_up();
  std::string text;
  std::array<size_t, kLongestWord + 1> ends = {};  // bytes of the first i letters
  for (size_t i = 0; i < letters.size(); ++i) {
    append_utf8(text, letters[i].code);
    ends[i + 1] = text.size();
  }
  for (size_t at = 0; at < letters.size();) {
    const Pieces& pieces = at == 0 ? starts_ : continuations_;
    auto found = pieces.ids.end();
    size_t next = letters.size();
    for (; next > at && found == pieces.ids.end(); --next) {
      const size_t size = ends[next] - ends[at];
      if (size <= pieces.longest)
        found = pieces.ids.find(std::string_view(text).substr(ends[at], size));
    }
    if (found == pieces.ids.end()) return give_up();
    ++next;
    add(found->second, letters.subspan(at, next - at));
    at = next;
  }
}

void WordPiece::add_words(std::span<const Character> text, int64_t& word, Encoding& to) const {
  for (size_t at = 0; at < text.size();) {
    size_t next = at + 1;
    if (!wordpiece::is_space(text[at].code)) {
      const auto ends = [&](int32_t code) {
        return wordpiece::is_space(code) || wordpiece::is_punctuation(code);
      };
      if (!wordpiece::is_punctuation(text[at].code)) {
        while (next < text.size() && !ends(text[next].code)) ++next;
      }
      add_word(text.subspan(at, next - at), word++, to);
    }
    at = next;
  }
}

void WordPiece::add_text(std::string_view text, Encoding& to) const {
  int64_t word = 0;
  const auto split = [&](const AddedTokens& tokens, std::span<const Character> whole,
                         const auto& add_rest) {
    const Character* begin = whole.data();
    for (const auto& match : tokens.find(whole)) {
      if (begin < match.text.data()) add_rest({begin, match.text.data()});
      to.ids.push_back(match.id);
      to.words.push_back(word++);
      to.bytes.push_back({match.text.front().begin, match.text.back().end});
      begin = match.text.data() + match.text.size();
    }
    add_rest({begin, whole.data() + whole.size()});
  };
  using Part = std::span<const Character>;
  split(*plain_, decode_utf8(text, to.invalid), [&](Part part) {
    split(*cleaned_, wordpiece::normalise(part, options_),
          [&](Part words) { add_words(words, word, to); });
  });
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
  const auto added = added_.find(token);
  return added == added_.end() ? find_piece(token).value_or(unknown_) : added->second;
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
