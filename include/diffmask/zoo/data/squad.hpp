#pragma once
/// \file
/// Questions whose answers are spans of a text: SQuAD 1.1 (Rajpurkar et al., "SQuAD: 100,000+
/// questions for machine comprehension of text", EMNLP 2016), read and encoded for a span model.
///
///     const Squad squad = read_squad("dev-v1.1.json");
///     const SpanExamples spans = span_examples(squad, tokenizer, CutAnswers::keep);
///     const EncodedDataset data = span_dataset(spans.examples);

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
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
  size_t context = 0;                ///< index in Squad::contexts
  std::vector<SquadAnswer> answers;  ///< at least one; several people may have answered
};

struct Squad {
  std::vector<std::string> contexts;
  std::vector<SquadQuestion> questions;
};

/// Reads a file of the structure data/paragraphs/qas. FileError if it is not JSON or lacks a field;
/// by its id for a question without an answer, with an answer that is not in the context where the
/// file says, or with an id that came before.
Squad read_squad(const std::string& path);

/// [CLS] question [SEP] context [SEP], and the tokens that are the answer.
struct SpanExample {
  Encoding encoding;    ///< bytes of type 0 count in the question, of type 1 in the context
  size_t question = 0;  ///< index in Squad::questions
  int64_t first = -1;   ///< first token that holds a part of the first answer; -1 if a part of the
                        ///< answer was cut off
  int64_t last = -1;    ///< last such token, or -1
  bool has_answer() const { return first >= 0; }
};

struct SpanExamples {
  std::vector<SpanExample> examples;
  int64_t cut_contexts = 0;  ///< number of contexts that were too long
  int64_t cut_answers = 0;   ///< number of questions that lost their answer by that
};

/// What to do with questions whose answer was cut off: drop them for training, keep them for
/// measuring, where they count as any other.
enum class CutAnswers { keep, drop };

/// One example per question, in order. Error, with the question's id, if the question leaves no
/// room for a context, or if the context is too long and the tokenizer has Overflow::error.
SpanExamples span_examples(const Squad& squad, const WordPiece& tokenizer, CutAnswers cut_answers);

/// As a data set, in order. Labels (N, 2) are `first` and `last`.
EncodedDataset span_dataset(const std::vector<SpanExample>& examples, EncodedOptions options = {});

/// The text of the context from token `first` to token `last`. ArgumentError unless both are tokens
/// of the context, in this order.
std::string span_text(const Squad& squad, const SpanExample& example, int64_t first, int64_t last);

/// Questions as a span model reads them, with what is needed to tell its answers in words.
struct SpanData {
  std::shared_ptr<const Squad> squad;
  std::vector<SpanExample> examples;
  EncodedDataset data;      ///< the examples, in order
  int64_t cut_answers = 0;  ///< of encode_questions: questions that lost their answer to the cut

  SpanData(std::shared_ptr<const Squad> squad, std::vector<SpanExample> examples,
           EncodedOptions options = {});

  /// The example in a row of a batch of `data`.
  const SpanExample& example(const Batch& batch, int64_t row) const;

  const SquadQuestion& question(const Batch& batch, int64_t row) const {
    return squad->questions[example(batch, row).question];
  }
};

/// Encodes `count` of the questions, evenly spaced (data/dataset.hpp); 0: all. Errors: as of
/// span_examples.
///
///     const SpanData test = encode_questions(read_squad("xquad.en.json"), tokenizer,
///                                            CutAnswers::keep);
SpanData encode_questions(Squad squad, const WordPiece& tokenizer, CutAnswers cut_answers,
                          int64_t count = 0);

/// Splits by passage, of which a tenth, drawn by the seed, is held out (the second part): questions
/// about one passage are too much alike.
std::pair<SpanData, SpanData> split_by_context(const SpanData& all, uint64_t seed);

}  // namespace diffmask
