#pragma once
/// \file
/// How well answers are found in a text, by the measures of SQuAD (Rajpurkar et al., "SQuAD:
/// 100,000+ questions for machine comprehension of text", EMNLP 2016): in [0, 1], higher is better.
///
///     const at::Tensor spans = best_spans(output, allowed, /*longest=*/30);   // (B, 2)
///     const double f1 = token_f1("the old man", {"The Old Man", "a man"});

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/metrics/output_scorer.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/train/trainer.hpp"
#include "diffmask/zoo/data/squad.hpp"
#include "diffmask/zoo/data/wordpiece.hpp"

namespace diffmask {

/// The first and last token of each row's most likely answer, by a span model's logits:
///
///     argmax of start[i] + end[j]   over allowed i and j with i <= j < i + longest
///
/// so an answer has at most `longest` >= 1 tokens. ArgumentError if a row allows no token.
/// Shape: output (B, T, 2), start before end; allowed (B, T) bool -> (B, 2) int64.
at::Tensor best_spans(const at::Tensor& output, const at::Tensor& allowed, int64_t longest);

/// In lower case, without ASCII punctuation and the words a, an, the, with single spaces.
std::string normalise_answer(std::string_view text);

/// 1 if the answer is one of the accepted ones after normalisation, else 0.
double exact_match(std::string_view answer, const std::vector<std::string>& accepted);

/// F1 = 2 P R / (P + R) of the normalised words, each counted as often as it comes; the largest
/// over the accepted answers. If one of the two answers has no words, 1 if both have none, else 0.
double token_f1(std::string_view answer, const std::vector<std::string>& accepted);

/// Cross entropy of the answer's first and last token, the mean of both: the loss of a span model.
/// Shape: output (B, T, 2), spans (B, 2) int64.
at::Tensor span_loss(const at::Tensor& output, const at::Tensor& spans);

/// 0, 1 and 2 for tokens of the question, of the passage and of the answer in it; -1 for others.
/// Shape: (B, T) int64, on the CPU.
at::Tensor token_kinds(const SpanData& data, const Batch& batch);

/// The answers that a model finds in the passages of a batch. Shape: output (B, T, 2).
std::vector<std::string> found_answers(const SpanData& data, const Batch& batch,
                                       const at::Tensor& output, int64_t longest);

/// A picture of each question in the batch with its passage; the title has the answer that the model
/// finds and the first accepted one. Shape: output (B, T, 2). ArgumentError where the attribution is
/// of other positions.
std::vector<Heatmap> span_heatmaps(const Attribution& attribution, const SpanData& data,
                                   const WordPiece& tokenizer, const Batch& batch,
                                   const at::Tensor& output, int64_t longest);

/// encoder_training as it suits a span model: D of start and end (divergence::span), batches of 8,
/// `steps` >= 1 for hidden gating and three times as many for input gating, of which a step trains
/// two depths. Validated once, at the end.
TrainerOptions span_training(Masking masking, double epsilon, int64_t steps = 300);

/// For score_masks: "exact_match" and "f1" of the answers found, and which share of the tokens of
/// the "question", of the "passage" (without the answer) and of the "answer" a mask keeps. `data`
/// is what is scored, and has to outlive the scorer.
OutputScorer span_scorer(const SpanData& data, int64_t longest);

}  // namespace diffmask
