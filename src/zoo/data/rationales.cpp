#include "diffmask/zoo/data/rationales.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"

namespace diffmask {
namespace {

constexpr std::array<std::string_view, 10> kColumns = {
    "text_id",         "annotator",  "original_label",
    "annotator_label", "sst2_split", "sst2_id",
    "ptb_split",       "ptb_line0",  "rationale_per_whitespace_token",
    "sentence"};
enum Column { kId, kAnnotator, kLabel, kAnnotatorLabel, kSplit = 6, kLine, kRationale, kSentence };

std::vector<bool> parse_marks(const std::string& text) {
  std::vector<bool> marks;
  for (const std::string& mark : split(text, ' ')) {
    if (mark != "0" && mark != "1") {
      throw Error(fmt::format("the rationale has to be of 0 and 1, but got '{}'", mark));
    }
    marks.push_back(mark == "1");
  }
  return marks;
}

RationaleSentence parse_sentence(const std::vector<std::string>& fields) {
  RationaleSentence sentence{.id = fields[kId],
                             .label = fields[kLabel],
                             .split = fields[kSplit],
                             .words = split(fields[kSentence], ' '),
                             .rationales = {}};
  const std::string& line = fields[kLine];
  const auto [end, problem] =
      std::from_chars(line.data(), line.data() + line.size(), sentence.line);
  if (problem != std::errc() || end != line.data() + line.size() || sentence.line < -1) {
    throw Error(fmt::format("ptb_line0 has to be a whole number >= -1, but got '{}'", line));
  }
  if (std::find(sentence.words.begin(), sentence.words.end(), "") != sentence.words.end()) {
    throw Error("the sentence has to be words with one space between them");
  }
  return sentence;
}

void add_line(const std::string& line, std::vector<RationaleSentence>& sentences,
              std::unordered_map<std::string, size_t>& places) {
  const std::vector<std::string> fields = split(line, '\t');
  if (fields.size() != kColumns.size()) {
    throw Error(fmt::format("has to hold {} fields, but got {}", kColumns.size(), fields.size()));
  }
  RationaleSentence sentence = parse_sentence(fields);
  Rationale rationale{fields[kAnnotator], fields[kAnnotatorLabel], parse_marks(fields[kRationale])};
  if (rationale.is_decisive.size() != sentence.words.size()) {
    throw Error(fmt::format("the rationale has to be of {} marks, one per word, but got {}",
                            sentence.words.size(), rationale.is_decisive.size()));
  }
  const auto [place, is_new] = places.emplace(sentence.id, sentences.size());
  if (is_new) sentences.push_back(sentence);
  RationaleSentence& known = sentences[place->second];
  if (known.words != sentence.words || known.split != sentence.split ||
      known.line != sentence.line || known.label != sentence.label) {
    throw Error(fmt::format("differs from the sentence {} of before", sentence.id));
  }
  for (const Rationale& other : known.rationales) {
    if (other.annotator == rationale.annotator) {
      throw Error(fmt::format("has a second rationale of annotator {} for sentence {}",
                              rationale.annotator, sentence.id));
    }
  }
  known.rationales.push_back(std::move(rationale));
}

}  // namespace

std::vector<RationaleSentence> read_rationales(const std::string& path) {
  std::vector<RationaleSentence> sentences;
  std::unordered_map<std::string, size_t> places;
  int64_t number = 0;
  for (const std::string& line : read_lines(path)) {
    ++number;
    try {
      if (number > 1) {
        add_line(line, sentences, places);
      } else if (line != fmt::format("{}", fmt::join(kColumns, "\t"))) {
        throw Error(fmt::format("has to hold the columns {}", fmt::join(kColumns, ", ")));
      }
    } catch (const Error& error) {
      throw FileError(path, number, error.what());
    }
  }
  if (sentences.empty()) throw FileError(path, "has no rationales");
  return sentences;
}

std::vector<bool> carried_over(const std::vector<bool>& chosen,
                               const std::vector<std::string>& leaves,
                               const std::vector<std::string>& words) {
  require(chosen.size() == leaves.size(), "chosen",
          fmt::format("one for each of {} words", leaves.size()), chosen.size());
  std::string of_leaves, of_words;
  std::vector<bool> characters;
  for (size_t i = 0; i < leaves.size(); ++i) {
    of_leaves += leaves[i];
    characters.resize(of_leaves.size(), chosen[i]);
  }
  for (const std::string& word : words) of_words += word;
  if (of_leaves != of_words) return {};
  std::vector<bool> result;
  auto from = characters.begin();
  for (const std::string& word : words) {
    const auto to = from + static_cast<int64_t>(word.size());
    result.push_back(std::find(from, to, true) != to);
    from = to;
  }
  return result;
}

}  // namespace diffmask
