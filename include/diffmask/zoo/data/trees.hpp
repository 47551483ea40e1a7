#pragma once
/// \file
/// Sentences with a sentiment for the whole, for each phrase and for each word, from the trees of
/// the Stanford Sentiment Treebank (Socher et al., "Recursive deep models for semantic
/// compositionality over a sentiment treebank", EMNLP 2013):
///
///     (3 (2 A) (4 (4 fine) (2 film)))
///
///     for (const LabelledSentence& sentence : read_trees("trees/train.txt")) {
///       fmt::print("{} {}\n", sentence.label, sentence.text());   // 3 A fine film
///     }

#include <ATen/core/Generator.h>

#include <cstdint>
#include <string>
#include <vector>

namespace diffmask {

/// Words of a sentence that have a sentiment as a part.
struct LabelledPhrase {
  int64_t label = 0;
  size_t first = 0, words = 0;  ///< words first .. first + words - 1 of the sentence
};

/// Labels are 0..4: very negative, negative, neutral, positive, very positive.
struct LabelledSentence {
  int64_t label = 0;                 ///< the root's label
  std::vector<std::string> words;    ///< the leaves, with ( ) / * for -LRB- -RRB- \/ \*
  std::vector<int64_t> word_labels;  ///< the leaves' labels
  /// The nodes between root and leaves, each after its parts.
  std::vector<LabelledPhrase> phrases = {};

  /// The words joined by spaces.
  std::string text() const;
};

/// Reads one tree per line. FileError names a line that is not one whole tree: unbalanced, empty,
/// with another label, with a node that has neither a word nor parts, or with something after the
/// tree.
std::vector<LabelledSentence> read_trees(const std::string& path);

/// The names of labels 0..4: "very_negative", "negative", "neutral", "positive", "very_positive".
const std::vector<std::string>& sentiment_names();

/// The sentences, followed by phrases drawn from each as sentences of their own: `most` of those
/// that have `least` words or more, or all if there are fewer.
std::vector<LabelledSentence> with_phrases(std::vector<LabelledSentence> sentences, int64_t most,
                                           const at::Generator& generator, size_t least = 4);

}  // namespace diffmask
