#include "diffmask/zoo/tasks/span.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <utf8proc.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/objective/divergence.hpp"
#include "diffmask/zoo/data/sentences.hpp"
#include "diffmask/zoo/tasks/encoder.hpp"
#include "zoo/data/utf8.hpp"

namespace diffmask {
namespace {

bool is_ascii_punctuation(int32_t code) {
  return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') ||
         (code >= '[' && code <= '`') || (code >= '{' && code <= '~');
}

// Letters and numbers, but not marks: the \w of Python's regular expressions, by which SQuAD's
// script finds articles.
bool is_alphanumeric(int32_t code) {
  const auto category = utf8proc_category(code);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) ||
         (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}

bool is_space(int32_t code) {
  const auto category = utf8proc_category(code);
  return (category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP) || code == 0x85 ||
         (code >= '\t' && code <= '\r') || (code >= 0x1C && code <= 0x1F);
}

std::vector<std::string> answer_words(std::string_view text) {
  std::vector<int32_t> codes;
  int64_t invalid = 0;
  for (const Character& character : decode_utf8(text, invalid)) {
    if (!is_ascii_punctuation(character.code)) codes.push_back(utf8proc_tolower(character.code));
  }
  std::vector<std::string> words = {""};
  for (size_t at = 0; at < codes.size();) {
    size_t next = at;
    std::string run;  // of one kind: what may be an article
    while (next < codes.size() && is_alphanumeric(codes[next])) append_utf8(run, codes[next++]);
    if (run == "a" || run == "an" || run == "the") {
      words.emplace_back();
    } else {
      words.back() += run;
    }
    for (; next < codes.size() && !is_alphanumeric(codes[next]); ++next) {
      if (is_space(codes[next])) {
        words.emplace_back();
      } else {
        append_utf8(words.back(), codes[next]);
      }
    }
    at = next;
  }
  std::erase(words, "");
  return words;
}

double word_f1(const std::vector<std::string>& answer, const std::vector<std::string>& accepted) {
  if (answer.empty() || accepted.empty()) return answer == accepted ? 1.0 : 0.0;
  std::map<std::string, int64_t> counts;
  for (const std::string& word : accepted) ++counts[word];
  const auto common = std::count_if(answer.begin(), answer.end(),
                                    [&](const std::string& word) { return counts[word]-- > 0; });
  // 2 P R / (P + R) with P = common / |answer| and R = common / |accepted|.
  return 2.0 * static_cast<double>(common) / static_cast<double>(answer.size() + accepted.size());
}

}  // namespace

at::Tensor best_spans(const at::Tensor& output, const at::Tensor& allowed, int64_t longest) {
  check_shape("output", output, {-1, -1, 2});
  check_shape("allowed", allowed, {output.size(0), output.size(1)});
  check_dtype("allowed", allowed, at::kBool);
  require(longest >= 1, "longest", ">= 1", longest);
  require(allowed.any(1).all().item<bool>(), "allowed", "true at one token or more of every row",
          "a row without any");
  const at::Tensor logits = output.masked_fill(allowed.logical_not().unsqueeze(2), -INFINITY);
  const at::Tensor sums = logits.select(2, 0).unsqueeze(2) + logits.select(2, 1).unsqueeze(1);
  const at::Tensor in_order =
      at::ones({output.size(1), output.size(1)}, allowed.options()).triu().tril(longest - 1);
  const at::Tensor best = sums.masked_fill(in_order.logical_not(), -INFINITY).flatten(1).argmax(1);
  return at::stack({best.div(output.size(1), "floor"), best.remainder(output.size(1))}, 1);
}

std::string normalise_answer(std::string_view text) {
  return fmt::format("{}", fmt::join(answer_words(text), " "));
}

double exact_match(std::string_view answer, const std::vector<std::string>& accepted) {
  require(!accepted.empty(), "accepted", "at least one answer", "none");
  const auto words = answer_words(answer);
  return std::any_of(accepted.begin(), accepted.end(),
                     [&](const std::string& other) { return answer_words(other) == words; })
             ? 1.0
             : 0.0;
}

double token_f1(std::string_view answer, const std::vector<std::string>& accepted) {
  require(!accepted.empty(), "accepted", "at least one answer", "none");
  const auto words = answer_words(answer);
  double best = 0.0;
  for (const std::string& other : accepted)
    best = std::max(best, word_f1(words, answer_words(other)));
  return best;
}

at::Tensor span_loss(const at::Tensor& output, const at::Tensor& spans) {
  return (at::cross_entropy_loss(output.select(2, 0), spans.select(1, 0)) +
          at::cross_entropy_loss(output.select(2, 1), spans.select(1, 1))) /
         2;
}

at::Tensor token_kinds(const SpanData& data, const Batch& batch) {
  at::Tensor kinds = at::full(batch.mask.sizes(), -1, at::kLong);
  for (int64_t row = 0; row < batch.size(); ++row) {
    const SpanExample& example = data.example(batch, row);
    const at::Tensor types = at::tensor(example.encoding.types, at::kLong);
    kinds[row].narrow(0, 0, types.size(0)).copy_(types);
    if (!example.has_answer()) continue;
    kinds[row].narrow(0, example.first, example.last - example.first + 1).fill_(2);
  }
  return kinds.masked_fill(batch.mask.to(at::kCPU).logical_not(), -1);
}

std::vector<std::string> found_answers(const SpanData& data, const Batch& batch,
                                       const at::Tensor& output, int64_t longest) {
  const at::Tensor spans = best_spans(output.to(at::kCPU), token_kinds(data, batch).ge(1), longest);
  std::vector<std::string> found;
  for (int64_t row = 0; row < batch.size(); ++row) {
    found.push_back(span_text(*data.squad, data.example(batch, row), spans[row][0].item<int64_t>(),
                              spans[row][1].item<int64_t>()));
  }
  return found;
}

std::vector<Heatmap> span_heatmaps(const Attribution& attribution, const SpanData& data,
                                   const WordPiece& tokenizer, const Batch& batch,
                                   const at::Tensor& output, int64_t longest) {
  const auto found = found_answers(data, batch, output, longest);
  std::vector<Heatmap> maps;
  for (int64_t row = 0; row < batch.size(); ++row) {
    const SquadQuestion& question = data.question(batch, row);
    maps.push_back(
        heatmap(attribution, row,
                token_names(tokenizer, data.example(batch, row).encoding, batch.mask[row]),
                fmt::format("{} Found: {}; expected: {}", question.text,
                            found[static_cast<size_t>(row)], question.answers.at(0).text)));
  }
  return maps;
}

TrainerOptions span_training(Masking masking, double epsilon, int64_t steps) {
  require(epsilon > 0, "epsilon", "> 0", epsilon);
  require(steps >= 1, "steps", ">= 1", steps);
  TrainerOptions trainer =
      encoder_training(masking, epsilon, /*unit=*/0.1 / epsilon, /*rate=*/8e-3);
  trainer.divergence = divergence::span;
  trainer.steps = steps * (masking == Masking::input ? 3 : 1);
  trainer.recipe.validate_every = trainer.steps;
  trainer.batches.batch_size = 8;
  return trainer;
}

OutputScorer span_scorer(const SpanData& data, int64_t longest) {
  const auto read = [&data, longest](const MaskedOutput& of) {
    std::vector<double> exact, f1;
    const auto found = found_answers(data, of.batch, of.output, longest);
    for (int64_t row = 0; row < of.batch.size(); ++row) {
      std::vector<std::string> accepted;
      for (const SquadAnswer& answer : data.question(of.batch, row).answers) {
        accepted.push_back(answer.text);
      }
      exact.push_back(exact_match(found[static_cast<size_t>(row)], accepted));
      f1.push_back(token_f1(found[static_cast<size_t>(row)], accepted));
    }
    const at::Tensor z = of.z.to(at::kCPU, at::kDouble), kinds = token_kinds(data, of.batch);
    const auto kept = [&](int64_t kind) {
      const at::Tensor tokens = kinds.eq(kind);
      return (z * tokens).sum(1) / tokens.sum(1);  // NaN where there are none
    };
    return at::stack(
        {at::tensor(exact, at::kDouble), at::tensor(f1, at::kDouble), kept(0), kept(1), kept(2)},
        1);
  };
  return scorer::means({{"exact_match", true},
                        {"f1", true},
                        {"question", true},
                        {"passage", true},
                        {"answer", true}},
                       read);
}

}  // namespace diffmask
