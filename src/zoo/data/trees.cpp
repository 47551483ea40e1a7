#include "diffmask/zoo/data/trees.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/data/dataset.hpp"

namespace diffmask {
namespace {

std::string unescape(std::string_view word) {
  if (word == "-LRB-") return "(";
  if (word == "-RRB-") return ")";
  std::string result;
  for (size_t i = 0; i < word.size(); ++i) {
    const bool is_escape =
        word[i] == '\\' && i + 1 < word.size() && (word[i + 1] == '/' || word[i + 1] == '*');
    if (!is_escape) result += word[i];
  }
  return result;
}

// Errors do not name the file and line. Open nodes are kept in a list, not on the call stack, so
// that a line may open any number of them.
LabelledSentence parse(std::string_view line) {
  struct Node {
    LabelledPhrase phrase;
    bool has_word, has_parts;
  };
  std::vector<Node> open;
  LabelledSentence sentence;
  bool is_whole = false;
  for (size_t at = 0; at < line.size();) {
    const auto fail = [&](const std::string& problem) {
      throw Error(fmt::format("{} at character {}", problem, at + 1));
    };
    if (line[at] == ' ') {
      ++at;
      continue;
    }
    if (is_whole) fail("has something after the tree");
    if (line[at] == '(') {
      if (!open.empty()) {
        if (open.back().has_word) fail("has a word and parts");
        open.back().has_parts = true;
      }
      const std::string_view label =
          line.substr(at + 1, line.find_first_of(" ()", at + 1) - at - 1);
      if (label.size() != 1 || label[0] < '0' || label[0] > '4') {
        fail(fmt::format("the label has to be 0..4, but got '{}'", label));
      }
      open.push_back({{label[0] - '0', sentence.words.size(), 0}, false, false});
      at += 2;
    } else if (line[at] == ')') {
      if (open.empty()) fail("closes what is not open");
      if (!open.back().has_word && !open.back().has_parts) {
        fail("has a node without a word or parts");
      }
      LabelledPhrase phrase = open.back().phrase;
      phrase.words = sentence.words.size() - phrase.first;
      const bool is_leaf = open.back().has_word;
      open.pop_back();
      is_whole = open.empty();
      if (is_whole) sentence.label = phrase.label;
      if (!is_whole && !is_leaf) sentence.phrases.push_back(phrase);
      ++at;
    } else {
      if (open.empty() || open.back().has_word || open.back().has_parts) {
        fail("has a word outside a node of its own");
      }
      const std::string_view word = line.substr(at, line.find_first_of(" ()", at) - at);
      open.back().has_word = true;
      sentence.words.push_back(unescape(word));
      sentence.word_labels.push_back(open.back().phrase.label);
      at += word.size();
    }
  }
  if (!open.empty()) throw Error(fmt::format("leaves {} nodes open", open.size()));
  if (!is_whole) throw Error("has no tree");
  return sentence;
}

}  // namespace

std::string LabelledSentence::text() const { return fmt::format("{}", fmt::join(words, " ")); }

std::vector<LabelledSentence> read_trees(const std::string& path) {
  std::vector<LabelledSentence> sentences;
  int64_t number = 0;
  for (const std::string& line : read_lines(path)) {
    ++number;
    try {
      sentences.push_back(parse(line));
    } catch (const Error& error) {
      throw FileError(path, number, error.what());
    }
  }
  if (sentences.empty()) throw FileError(path, "has no trees");
  return sentences;
}

const std::vector<std::string>& sentiment_names() {
  static const std::vector<std::string> names = {"very_negative", "negative", "neutral", "positive",
                                                 "very_positive"};
  return names;
}

std::vector<LabelledSentence> with_phrases(std::vector<LabelledSentence> sentences, int64_t most,
                                           const at::Generator& generator, size_t least) {
  require(most >= 0, "most", ">= 0", most);
  std::vector<LabelledSentence> drawn;
  for (const LabelledSentence& sentence : sentences) {
    std::vector<LabelledSentence> phrases;
    for (const auto& [label, first, words] : sentence.phrases) {
      if (words < least) continue;
      const auto begin = sentence.words.begin() + static_cast<int64_t>(first);
      phrases.push_back({label, {begin, begin + static_cast<int64_t>(words)}, {}});
    }
    const auto order = shuffled(static_cast<int64_t>(phrases.size()), generator);
    for (size_t i = 0; i < order.size() && i < static_cast<size_t>(most); ++i) {
      drawn.push_back(std::move(phrases[static_cast<size_t>(order[i])]));
    }
  }
  sentences.insert(sentences.end(), drawn.begin(), drawn.end());
  return sentences;
}

}  // namespace diffmask
