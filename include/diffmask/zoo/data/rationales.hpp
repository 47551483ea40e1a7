#pragma once
/// \file
/// Which words people say decided their judgement of a sentence: FairRationales, Thorn Jakobsen et
/// al., "Being right for whose right reasons?", ACL 2023, for sentences of the Stanford Sentiment
/// Treebank.

#include <cstdint>
#include <string>
#include <vector>

namespace diffmask {

struct Rationale {
  std::string annotator;
  std::string label;              ///< the annotator's own: positive, negative, no sentiment
  std::vector<bool> is_decisive;  ///< one a word of the sentence
};

struct RationaleSentence {
  std::string id;
  std::string label;               ///< positive or negative, as the treebank has it
  std::string split;               ///< train, dev or test; "" where it is in none
  int64_t line = -1;               ///< from 0 in that split's file of trees; -1 where in none
  std::vector<std::string> words;  ///< between spaces, punctuation and all
  std::vector<Rationale> rationales;
};

/// Reads the tab-separated table, whose first line names its columns; sentences in order of first
/// appearance. FileError names a line with another number of fields, a rationale that is not 0 or 1
/// for each word, a second one of the same annotator, or another sentence than before of that id.
///
/// The words are not those of the trees, which divide "film's" and the like. Without spaces both
/// are the same text but for a few sentences, so characters lead from one to the other.
std::vector<RationaleSentence> read_rationales(const std::string& path);

}  // namespace diffmask
