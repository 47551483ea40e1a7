#pragma once
/// \file
/// The words that people say decided their judgement of a sentence, to compare attributions with:
/// FairRationales (Thorn Jakobsen et al., "Being right for whose right reasons?", ACL 2023), for
/// sentences of the Stanford Sentiment Treebank.
///
///     for (const RationaleSentence& sentence : read_rationales("sst_rationales.tsv")) {
///       const std::vector<bool>& marks = sentence.rationales.at(0).is_decisive;   // one per word
///     }

#include <cstdint>
#include <string>
#include <vector>

namespace diffmask {

struct Rationale {
  std::string annotator;
  std::string label;              ///< the annotator's label: positive, negative, no sentiment
  std::vector<bool> is_decisive;  ///< one per word of the sentence
};

struct RationaleSentence {
  std::string id;
  std::string label;  ///< the treebank's label: positive or negative
  std::string split;  ///< train, dev or test; empty if it is in none
  int64_t line = -1;  ///< its line in that split's file of trees, from 0; -1 if in none
  std::vector<std::string> words;  ///< split at spaces, punctuation included
  std::vector<Rationale> rationales;
};

/// Reads the tab-separated table, whose first line names its columns. Sentences are in order of
/// first appearance. FileError names a line with a wrong number of fields, a rationale that is not
/// 0 or 1 for each word, a second rationale by the same annotator, or another sentence than before
/// under the same id.
///
/// The words are not those of the trees, which split "film's" and the like. Without spaces both are
/// the same text, except in a few sentences, so that words can be matched by their characters.
std::vector<RationaleSentence> read_rationales(const std::string& path);

/// Which of `words`, split at spaces, hold a chosen one of `leaves`, a finer division of the same
/// text, or the other way round. Empty where, without spaces, the two are not the same text.
std::vector<bool> carried_over(const std::vector<bool>& chosen,
                               const std::vector<std::string>& leaves,
                               const std::vector<std::string>& words);

}  // namespace diffmask
