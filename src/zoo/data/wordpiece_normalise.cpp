#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <vector>

#include "zoo/data/utf8.hpp"
#include "zoo/data/wordpiece_parts.hpp"

namespace diffmask::wordpiece {
namespace {

constexpr int32_t kDottedI = 0x130, kDotAbove = 0x307;

struct Range {
  int32_t first, last;
};

bool within(const Range* begin, const Range* end, int32_t code) {
  const Range* next = std::upper_bound(
      begin, end, code, [](int32_t value, const Range& range) { return value < range.first; });
  return next != begin && code <= (next - 1)->last;
}

// The tokenizer that models were trained with knows the categories of Unicode 8. To it, characters
// that became marks, punctuation marks, format characters or decomposable later are plain letters.
// These ranges hold no such character from before, so they also cover later additions to them.
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

// Characters that are left out. Unassigned characters are kept.
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

int combining_class(int32_t code) {
  return code < 0x300 || is_newer(code) ? 0 : utf8proc_get_property(code)->combining_class;
}

// Brings all marks into canonical order, including those that are not accents and stay.
void sort_marks(std::vector<Character>& letters) {
  const auto is_base = [](const Character& letter) { return combining_class(letter.code) == 0; };
  for (auto at = letters.begin(); at != letters.end();) {
    const auto begin = std::find_if_not(at, letters.end(), is_base);
    at = std::find_if(begin, letters.end(), is_base);
    std::stable_sort(begin, at, [](const Character& a, const Character& b) {
      return combining_class(a.code) < combining_class(b.code);
    });
  }
}

}  // namespace

bool is_space(int32_t code) {
  if (code < 0x80) return code == ' ' || code == '\t' || code == '\n' || code == '\r';
  const auto category = utf8proc_category(code);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
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

std::vector<Character> normalise(std::span<const Character> text, const WordPieceOptions& options) {
  const bool strips = options.strip_accents.value_or(options.lowercase);
  std::vector<Character> letters;
  letters.reserve(text.size());
  bool has_marks = false;
  for (const Character& character : text) {
    const auto add = [&](int32_t code) {
      const bool is_dotted = options.lowercase && code == kDottedI;  // the one that becomes two
      if (options.lowercase) code = is_dotted ? 'i' : utf8proc_tolower(code);
      letters.push_back({code, character.begin, character.end});
      if (is_dotted) letters.push_back({kDotAbove, character.begin, character.end});
    };
    if (is_control(character.code)) continue;
    if (is_space(character.code)) {
      add(' ');
      continue;
    }
    const bool is_word = options.chinese_characters && is_chinese(character.code);
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
    sort_marks(letters);
    std::erase_if(letters, [](const Character& letter) { return is_accent(letter.code); });
  }
  return letters;
}

}  // namespace diffmask::wordpiece
