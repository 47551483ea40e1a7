#pragma once
/// \file
/// Questions whose answers are spans of a text, as SQuAD 1.1 has them, and as a span model reads
/// them. Rajpurkar et al.: "SQuAD: 100,000+ questions for machine comprehension of text", EMNLP
/// 2016.

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/zoo/data/encoded.hpp"
#include "diffmask/zoo/data/wordpiece.hpp"

namespace diffmask {

struct SquadAnswer {
  std::string text;
  ByteSpan bytes;  ///< where it stands in the context; the file counts characters
};

struct SquadQuestion {
  std::string id;
  std::string text;
  size_t context = 0;                ///< which one of the contexts
  std::vector<SquadAnswer> answers;  ///< at least one; several people may have answered
};

struct Squad {
  std::vector<std::string> contexts;
  std::vector<SquadQuestion> questions;
};

/// Reads a file of data/paragraphs/qas. FileError for what is not JSON or lacks a field, and, by
/// the question's id, for one without an answer, with an answer that does not stand in the context
/// where the file says, or with an id that came before.
Squad read_squad(const std::string& path);

/// [CLS] question [SEP] context [SEP], and which of its tokens are the answer.
struct SpanExample {
  Encoding encoding;    ///< bytes of type 0 count in the question, of type 1 in the context
  size_t question = 0;  ///< which one of the Squad's
  int64_t first = -1;   ///< first and last token that hold a part of the first answer;
  int64_t last = -1;    ///< both -1 where some was cut off
  bool has_answer() const { return first >= 0; }
};

struct SpanExamples {
  std::vector<SpanExample> examples;
  int64_t cut_contexts = 0;  ///< how many contexts were too long
  int64_t cut_answers = 0;   ///< how many questions lost their answer by that
};

/// What to do with questions whose answer was cut off: leave them out of training, but keep them
/// when measuring, where they count as any other.
enum class CutAnswers { keep, drop };

/// An example a question, in order. Error, by the question's id, where the question leaves no room
/// for a context, or the context is too long and the tokenizer has Overflow::error.
SpanExamples span_examples(const Squad& squad, const WordPiece& tokenizer, CutAnswers cut_answers);

/// As a data set, in order; its labels, shape (N, 2), are `first` and `last`.
EncodedDataset span_dataset(const std::vector<SpanExample>& examples, EncodedOptions options = {});

/// What stands in the context from token `first` to `last`. ArgumentError unless both are tokens of
/// the context, and in order.
std::string span_text(const Squad& squad, const SpanExample& example, int64_t first, int64_t last);

}  // namespace diffmask
