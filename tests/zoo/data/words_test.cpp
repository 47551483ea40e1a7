#include "diffmask/zoo/data/words.hpp"

#include <gtest/gtest.h>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

using Texts = std::vector<std::string>;

Texts texts(std::string_view text) {
  Texts result;
  for (const Word& word : words(text)) result.push_back(word.text);
  return result;
}

Texts forms(std::string_view text) {
  Texts result;
  for (const Word& word : words(text)) result.push_back(word.form);
  return result;
}

TEST(WordsTest, SplitsAText) {
  const std::vector<std::pair<std::string, Texts>> table = {
      {"", {}},
      {" \t\n\u00A0\u2028", {}},
      {"A fine film", {"A", "fine", "film"}},
      {"Good, bad.", {"Good", ",", "bad", "."}},
      {"3D in 1999", {"3D", "in", "1999"}},
      {"don't o\u2019clock", {"don't", "o\u2019clock"}},
      {"well-made rock-'n'-roll", {"well-made", "rock", "-", "'", "n", "'", "-", "roll"}},
      {"'quoted' -dash- its' a--b",
       {"'", "quoted", "'", "-", "dash", "-", "its", "'", "a", "-", "-", "b"}},
      {"mother-in-law's", {"mother-in-law's"}},
      {"caf\u00E9 cafe\u0301", {"caf\u00E9", "cafe\u0301"}},
      {"\u65E5\u672C :)", {"\u65E5\u672C", ":", ")"}},
      {"so\U0001F600so", {"so", "\U0001F600", "so"}},
      {"x\u00ADy", {"x", "y"}},      // a soft hyphen cannot be seen
      {"\u2764\uFE0F", {"\u2764"}},  // nor can a variation selector
      {std::string("a\0b", 3), {"a", "b"}},
  };
  for (const auto& [text, expected] : table) EXPECT_EQ(texts(text), expected) << text;
}

TEST(WordsTest, FormsAreNormalisedAndFolded) {
  const std::vector<std::pair<std::string, Texts>> table = {
      {"Fine FILM", {"fine", "film"}},
      {"STRASSE Stra\u00DFe", {"strasse", "strasse"}},
      {"\u00C9T\u00C9 e\u0301te\u0301", {"\u00E9t\u00E9", "\u00E9t\u00E9"}},
      {"\u03A3\u03AF\u03C3\u03C5\u03C6\u03BF\u03C2",
       {"\u03C3\u03AF\u03C3\u03C5\u03C6\u03BF\u03C3"}},
      {"\uFF26\uFF29\uFF2C\uFF2D \uFB01lm", {"film", "film"}},
      {"\u041C\u0418\u0420", {"\u043C\u0438\u0440"}},
  };
  for (const auto& [text, expected] : table) EXPECT_EQ(forms(text), expected) << text;
}

TEST(WordsTest, RefusesTextThatIsNotUtf8) {
  const auto split = [](std::string text) { return [text] { words(text); }; };
  expect_refused({
      {"Latin-1", split("caf\xE9 noir"), "text has to be UTF-8, but got byte 0xe9 at 3"},
      {"cut off", split("ab\xC3"), "byte 0xc3 at 2"},
      {"overlong", split("\xC0\xAF"), "byte 0xc0 at 0"},
      {"surrogate", split("\xED\xA0\x80"), "byte 0xed at 0"},
      {"continuation alone", split("a\x80"), "byte 0x80 at 1"},
  });
}

TEST(VocabularyTest, NumbersFormsInOrderOfAppearance) {
  const std::vector<std::vector<Word>> texts = {words("A fine film, a FINE one"),
                                                words("the film is fine")};
  const Vocabulary all(texts, 1), twice(texts, 2), thrice(texts, 3);
  EXPECT_EQ(all.size(), 2 + 7);
  EXPECT_EQ(all.id("a"), 2);
  EXPECT_EQ(all.id("fine"), 3);
  EXPECT_EQ(all.id("film"), 4);
  EXPECT_EQ(all.id("is"), 8);
  EXPECT_EQ(all.id("Fine"), Vocabulary::kUnknown) << "forms are looked up, not texts";
  EXPECT_EQ(all.id("boring"), Vocabulary::kUnknown);
  EXPECT_EQ(twice.size(), 2 + 3);
  EXPECT_EQ(twice.id("film"), 4);
  EXPECT_EQ(twice.id("one"), Vocabulary::kUnknown);
  EXPECT_EQ(thrice.size(), 2 + 1);
  EXPECT_EQ(thrice.id("fine"), 2);
  EXPECT_EQ(Vocabulary({}, 1).size(), 2);
  expect_refused({{"least 0", [&] { Vocabulary(texts, 0); }, "least has to be >= 1, but got 0"}});
}

}  // namespace
}  // namespace diffmask
