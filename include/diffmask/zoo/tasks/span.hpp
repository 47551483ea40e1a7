#pragma once
/// \file
/// How well an answer is found in a text, as SQuAD measures it; higher is better, 1 at most.
/// Rajpurkar et al.: "SQuAD: 100,000+ questions for machine comprehension of text", EMNLP 2016.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace diffmask {

/// The first and last token of each row's likeliest answer, by a span model's logits:
///
///     argmax of start[i] + end[j]   over allowed i and j with i <= j < i + longest
///
/// so an answer may not hold more than `longest` >= 1 tokens. ArgumentError where a row allows no
/// token. Shape: output (B, T, 2), start before end; allowed (B, T) bool -> (B, 2) int64.
at::Tensor best_spans(const at::Tensor& output, const at::Tensor& allowed, int64_t longest);

/// Lower case; without ASCII punctuation and the words a, an, the; single spaces.
std::string normalise_answer(std::string_view text);

/// 1 where some accepted answer is the given one after normalisation, else 0.
double exact_match(std::string_view answer, const std::vector<std::string>& accepted);

/// F1 = 2 P R / (P + R) of the normalised words, counted as often as they come; of the accepted
/// answer that gives most. Where either has no words, 1 if neither has, else 0.
double token_f1(std::string_view answer, const std::vector<std::string>& accepted);

}  // namespace diffmask
