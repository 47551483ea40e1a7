#pragma once
/// \file
/// Sentences with a sentiment for the whole, each phrase and each word, from trees as the Stanford
/// Sentiment Treebank has them: Socher et al., "Recursive deep models for semantic compositionality
/// over a sentiment treebank", EMNLP 2013.
///
///     (3 (2 A) (4 (4 fine) (2 film)))

#include <cstdint>
#include <string>
#include <vector>

namespace diffmask {

/// Words of a sentence that are a part with a sentiment of its own.
struct LabelledPhrase {
  int64_t label = 0;
  size_t first = 0, words = 0;  ///< words first .. first + words - 1 of the sentence
};

/// Labels are 0..4: very negative, negative, neutral, positive, very positive.
struct LabelledSentence {
  int64_t label = 0;                 ///< that of the root
  std::vector<std::string> words;    ///< the leaves, with ( ) / * for -LRB- -RRB- \/ \*
  std::vector<int64_t> word_labels;  ///< those of the leaves
  /// The nodes between root and leaves, a part after those that it has.
  std::vector<LabelledPhrase> phrases = {};

  /// The words with a space between them.
  std::string text() const;
};

/// Reads a tree a line. FileError names a line that is not one whole tree: unbalanced, empty, with
/// another label, a node without a word or parts, or something left over.
std::vector<LabelledSentence> read_trees(const std::string& path);

}  // namespace diffmask
