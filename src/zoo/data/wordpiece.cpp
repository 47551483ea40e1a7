#include "diffmask/zoo/data/wordpiece.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "zoo/data/utf8.hpp"

namespace diffmask {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::array<std::string_view, 5> kSpecial = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
constexpr int64_t kLongestWord = 100;  // characters; longer ones are [UNK]
constexpr int32_t kDottedI = 0x130, kDotAbove = 0x307;

struct Range {
  int32_t first, last;
};

bool within(const Range* begin, const Range* end, int32_t code) {
  const Range* next = std::upper_bound(
      begin, end, code, [](int32_t value, const Range& range) { return value < range.first; });
  return next != begin && code <= (next - 1)->last;
}

// The tokenizer that models were trained with knows the categories of Unicode 8. What became a
// mark, a punctuation mark, a format character or decomposable later is a plain letter to it. These
// ranges hold no older such character, and so also cover what Unicode is going to add in them.
constexpr Range kNewer[] = {
    {0x61D, 0x61D},     {0x7FD, 0x7FD},     {0x890, 0x8E2},     {0x9FD, 0x9FE},
    {0xA76, 0xA76},     {0xAFA, 0xAFF},     {0xB55, 0xB55},     {0xC04, 0xC3C},
    {0xC77, 0xC77},     {0xC84, 0xC84},     {0xD00, 0xD00},     {0xD3B, 0xD3C},
    {0xD81, 0xD81},     {0xEBA, 0xEBA},     {0xECE, 0xECE},     {0x180F, 0x1886},
    {0x1ABF, 0x1ACE},   {0x1B7D, 0x1B7E},   {0x1DF6, 0x1DFB},   {0x2E43, 0x2E5D},
    {0xA82C, 0xA82C},   {0xA8C5, 0xA8C5},   {0xA8FF, 0xA8FF},   {0xA9BD, 0xA9BD},
    {0x105C9, 0x105E4}, {0x10D24, 0x10F89}, {0x11070, 0x11074}, {0x110C2, 0x110CD},
    {0x111CF, 0x111CF}, {0x1123E, 0x11241}, {0x1133B, 0x1133B}, {0x11383, 0x1145E},
    {0x11660, 0x1166C}, {0x116B9, 0x116B9}, {0x1182F, 0x11FFF}, {0x12FF1, 0x16128},
    {0x16D68, 0x16F4F}, {0x16FE2, 0x16FE4}, {0x1CF00, 0x1CF46}, {0x1E000, 0x1E4EF},
    {0x1E944, 0x1E95F}};

constexpr Range kChinese[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                              {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F},
                              {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};

bool is_newer(int32_t code) { return within(std::begin(kNewer), std::end(kNewer), code); }

bool is_chinese(int32_t code) {
  return code >= 0x3400 && within(std::begin(kChinese), std::end(kChinese), code);
}

bool is_space(int32_t code) {
  if (code < 0x80) return code == ' ' || code == '\t' || code == '\n' || code == '\r';
  const auto category = utf8proc_category(code);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

// Characters left out; unassigned ones are not among them.
bool is_control(int32_t code) {
  if (code < 0x80) return (code < 0x20 || code == 0x7F) && !is_space(code);
  const auto category = utf8proc_category(code);
  return code == kReplacement || category == UTF8PROC_CATEGORY_CC ||
         category == UTF8PROC_CATEGORY_CO || (category == UTF8PROC_CATEGORY_CF && !is_newer(code));
}

// Three characters have changed their category since Unicode 8.
constexpr int32_t kMongolianFullStop = 0x166D, kHanunooPamudpod = 0x1734, kSharadaSandhi = 0x111C9;

bool is_accent(int32_t code) {
  if (code == kHanunooPamudpod) return true;
  return code >= 0x300 && utf8proc_category(code) == UTF8PROC_CATEGORY_MN &&
         code != kSharadaSandhi && !is_newer(code);
}

bool is_punctuation(int32_t code) {
  if (code < 0x80) {
    return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') ||
           (code >= '[' && code <= '`') || (code >= '{' && code <= '~');
  }
  if (code == kMongolianFullStop || code == kSharadaSandhi) return true;
  const auto category = utf8proc_category(code);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO && !is_newer(code);
}

int combining_class(int32_t code) {
  return code < 0x300 || is_newer(code) ? 0 : utf8proc_get_property(code)->combining_class;
}

// The special token that the text goes on with, or "".
std::string_view special_at(std::string_view text) {
  for (const std::string_view token : kSpecial) {
    if (text.starts_with(token)) return token;
  }
  return "";
}

template <typename Read>
auto read_json(const std::string& path, const Read& read) {
  try {
    return read(json::parse(read_file(path)));
  } catch (const json::exception& error) {
    throw FileError(path, error.what());
  }
}

template <typename Value>
void expect(const std::string& path, const json& object, const std::string& key,
            const Value& value) {
  const json found = object.value(key, json(value));
  if (found != json(value)) {
    throw FileError(
        path, fmt::format("{} has to be {}, but got {}", key, json(value).dump(), found.dump()));
  }
}

void take_flag(const json& object, const std::string& key, bool& flag) {
  if (object.contains(key)) flag = object.at(key).get<bool>();
}

void take_accents(const json& object, WordPieceOptions& options) {
  if (!object.contains("strip_accents")) return;
  options.strip_accents.reset();
  if (!object.at("strip_accents").is_null()) options.strip_accents = object["strip_accents"];
}

void take_tokenizer(const std::string& path, const json& file, WordPieceOptions& options) {
  const json& model = file.at("model");
  expect(path, model, "type", "WordPiece");
  expect(path, model, "unk_token", "[UNK]");
  expect(path, model, "continuing_subword_prefix", "##");
  expect(path, model, "max_input_chars_per_word", kLongestWord);
  const json& normalizer = file.at("normalizer");
  expect(path, normalizer, "type", "BertNormalizer");
  expect(path, normalizer, "clean_text", true);
  take_flag(normalizer, "lowercase", options.lowercase);
  take_flag(normalizer, "handle_chinese_chars", options.chinese_characters);
  take_accents(normalizer, options);
  for (const json& token : file.value("added_tokens", json::array())) {
    const std::string content = token.at("content");
    if (std::find(kSpecial.begin(), kSpecial.end(), content) == kSpecial.end()) {
      throw FileError(path, fmt::format("the added token '{}' is not one of {}", content,
                                        fmt::join(kSpecial, ", ")));
    }
    for (const char* key : {"lstrip", "rstrip", "single_word", "normalized"}) {
      expect(path, token, key, false);
    }
  }
}

void take_config(const json& file, WordPieceOptions& options) {
  take_flag(file, "do_lower_case", options.lowercase);
  take_flag(file, "tokenize_chinese_chars", options.chinese_characters);
  take_accents(file, options);
  // Models without a limit have a number of 30 digits here.
  const json longest = file.value("model_max_length", json());
  if (longest.is_number_integer()) options.longest = longest;
}

std::vector<std::string> tokens_of(const std::string& path, const json& file) {
  const json& ids = file.at("model").at("vocab");
  std::vector<std::string> tokens(ids.size());
  std::vector<bool> taken(ids.size());
  for (const auto& [token, number] : ids.items()) {
    const int64_t id = number;
    if (id < 0 || id >= static_cast<int64_t>(tokens.size()) || taken[id]) {
      throw FileError(path, fmt::format("the ids have to be 0..{}, each once, but got {} for '{}'",
                                        tokens.size() - 1, id, token));
    }
    tokens[id] = token;
    taken[id] = true;
  }
  return tokens;
}

}  // namespace

// A character of the normalised text, and the bytes of the original that it stands for.
struct WordPiece::Letter {
  int32_t code;
  int64_t begin, end;
};

void WordPieceOptions::validate() const { require(longest >= 3, "longest", ">= 3", longest); }

WordPieceOptions read_wordpiece_options(const std::string& folder) {
  WordPieceOptions options;
  const std::string tokenizer = (fs::path(folder) / "tokenizer.json").string();
  const std::string config = (fs::path(folder) / "tokenizer_config.json").string();
  if (fs::exists(tokenizer)) {
    read_json(tokenizer, [&](const json& file) { take_tokenizer(tokenizer, file, options); });
  }
  if (fs::exists(config)) {
    read_json(config, [&](const json& file) { take_config(file, options); });
  }
  return options;
}

WordPiece WordPiece::load(const std::string& path, std::optional<WordPieceOptions> options) {
  const bool is_folder = fs::is_directory(path);
  const fs::path folder = is_folder ? fs::path(path) : fs::path(path).parent_path();
  if (!options) options = read_wordpiece_options(folder.string());
  const std::string list = is_folder ? (folder / "vocab.txt").string() : path;
  const std::string tokenizer = (folder / "tokenizer.json").string();
  if (fs::exists(list) || !fs::exists(tokenizer)) return {read_lines(list), *options, list};
  return {read_json(tokenizer, [&](const json& file) { return tokens_of(tokenizer, file); }),
          *options, tokenizer};
}

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
                      fmt::format("the token '{}' has to be there once, but got it in line {} too",
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

std::vector<WordPiece::Letter> WordPiece::normalise(std::string_view text, int64_t offset,
                                                    int64_t& invalid) const {
  const bool strips = options_.strip_accents.value_or(options_.lowercase);
  std::vector<Letter> letters;
  letters.reserve(text.size());
  bool has_marks = false;
  for (const Character& character : decode_utf8(text, invalid)) {
    const int64_t begin = offset + character.begin, end = offset + character.end;
    const auto add = [&](int32_t code) {
      const bool is_dotted = options_.lowercase && code == kDottedI;  // the one that becomes two
      if (options_.lowercase) code = is_dotted ? 'i' : utf8proc_tolower(code);
      letters.push_back({code, begin, end});
      if (is_dotted) letters.push_back({kDotAbove, begin, end});
    };
    if (is_control(character.code)) continue;
    if (is_space(character.code)) {
      add(' ');
      continue;
    }
    const bool is_word = options_.chinese_characters && is_chinese(character.code);
    if (is_word) add(' ');
    if (strips && character.code >= 0x80 && !is_newer(character.code)) {
      utf8proc_int32_t parts[8];  // Unicode's longest canonical decomposition has four
      const auto count =
          utf8proc_decompose_char(character.code, parts, 8, UTF8PROC_DECOMPOSE, nullptr);
      for (utf8proc_ssize_t i = 0; i < count; ++i) add(parts[i]);
      has_marks = true;
    } else {
      add(character.code);
    }
    if (is_word) add(' ');
  }
  if (has_marks) {
    // Canonical order, of those marks too that are no accents and stay.
    for (auto at = letters.begin(); at != letters.end();) {
      const auto is_base = [](const Letter& letter) { return combining_class(letter.code) == 0; };
      const auto begin = std::find_if_not(at, letters.end(), is_base);
      at = std::find_if(begin, letters.end(), is_base);
      std::stable_sort(begin, at, [](const Letter& a, const Letter& b) {
        return combining_class(a.code) < combining_class(b.code);
      });
    }
    std::erase_if(letters, [](const Letter& letter) { return is_accent(letter.code); });
  }
  return letters;
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
  const std::vector<Letter> letters = normalise(text, offset, to.invalid);
  const Letter* const end = letters.data() + letters.size();
  for (const Letter* at = letters.data(); at != end;) {
    const Letter* next = at + 1;
    if (is_space(at->code)) {
      at = next;
      continue;
    }
    if (!is_punctuation(at->code)) {
      while (next != end && !is_space(next->code) && !is_punctuation(next->code)) ++next;
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

// Brings an encoding that still lacks `framing` special tokens to the length that is allowed;
// the first `kept` tokens are not for cutting, and leave room for at least one more.
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

// [CLS] the first `border` tokens [SEP] and, of a pair, the others [SEP].
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
