#pragma once
/// \file
/// The tokens of encoded sentences that people marked, as what an attribution should find
/// (ComparisonOptions::truth).
///
///     const Sentences test = encode_sentences(read_trees("trees/test.txt"), tokenizer);
///     const at::Tensor marked = marked_tokens(read_rationales("rationales.tsv"), "test", test);

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "diffmask/zoo/data/rationales.hpp"
#include "diffmask/zoo/data/sentences.hpp"

namespace diffmask {

/// The tokens of words that at least half of the annotators marked. A sentence without rationales
/// in this split, or whose words are not those of the rationales, has none. Shape: (N, T) bool, T
/// the longest sentence's tokens.
at::Tensor marked_tokens(const std::vector<RationaleSentence>& rationales, const std::string& split,
                         const Sentences& sentences);

}  // namespace diffmask
