#include "diffmask/zoo/data/squad.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "zoo/data/utf8.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

// The byte at which each character of the text begins, and that at which the last one ends.
std::vector<int64_t> character_borders(const std::string& text) {
  int64_t invalid = 0;
  std::vector<int64_t> borders = {0};
  for (const Character& character : decode_utf8(text, invalid)) borders.push_back(character.end);
  return borders;
}

SquadAnswer parse_answer(const json& item, const std::string& context,
                         const std::vector<int64_t>& borders) {
  SquadAnswer answer{item.at("text"), {}};
  const int64_t start = item.at("answer_start");
  if (answer.text.empty()) throw Error("has an answer without text");
  if (start < 0 || start >= static_cast<int64_t>(borders.size())) {
    throw Error(
        fmt::format("answer_start has to be in 0..{}, but got {}", borders.size() - 1, start));
  }
  const int64_t begin = borders[start];
  answer.bytes = {begin, begin + static_cast<int64_t>(answer.text.size())};
  const std::string found = context.substr(begin, answer.text.size());
  if (found != answer.text) {
    throw Error(fmt::format("the answer has to be the context's text at {}, '{}', but got '{}'",
                            start, found, answer.text));
  }
  return answer;
}

void parse_paragraph(const std::string& path, const json& paragraph, Squad& squad,
                     std::unordered_set<std::string>& ids) {
  const std::string& context = squad.contexts.emplace_back(paragraph.at("context"));
  const std::vector<int64_t> borders = character_borders(context);
  for (const json& item : paragraph.at("qas")) {
    SquadQuestion question{
        .id = item.at("id"), .text = {}, .context = squad.contexts.size() - 1, .answers = {}};
    try {
      if (!ids.insert(question.id).second) throw Error("the id is there twice");
      question.text = item.at("question");
      for (const json& answer : item.at("answers")) {
        question.answers.push_back(parse_answer(answer, context, borders));
      }
      if (question.answers.empty()) throw Error("has no answer");
    } catch (const std::exception& error) {
      throw FileError(path, fmt::format("question {}: {}", question.id, error.what()));
    }
    squad.questions.push_back(std::move(question));
  }
}

// Finds the tokens of the context that hold a part of the answer.
void find_answer(const ByteSpan& answer, SpanExample& example) {
  const Encoding& encoding = example.encoding;
  int64_t end = 0;
  for (int64_t t = 0; t < encoding.size(); ++t) {
    if (encoding.types[t] == 0 || encoding.words[t] < 0) continue;
    const ByteSpan& token = encoding.bytes[t];
    end = std::max(end, token.end);
    if (token.end <= answer.begin || token.begin >= answer.end) continue;
    if (example.first < 0) example.first = t;
    example.last = t;
  }
  const bool is_cut = encoding.cut > 0 && end < answer.end;
  if (is_cut) example.first = example.last = -1;
}

}  // namespace

Squad read_squad(const std::string& path) {
  Squad squad;
  std::unordered_set<std::string> ids;
  try {
    const json file = json::parse(read_file(path));
    for (const json& article : file.at("data")) {
      for (const json& paragraph : article.at("paragraphs")) {
        parse_paragraph(path, paragraph, squad, ids);
      }
    }
  } catch (const json::exception& error) {
    throw FileError(path, error.what());
  }
  if (squad.questions.empty()) throw FileError(path, "has no questions");
  return squad;
}

SpanExamples span_examples(const Squad& squad, const WordPiece& tokenizer, CutAnswers cut_answers) {
  SpanExamples result;
  for (size_t i = 0; i < squad.questions.size(); ++i) {
    const SquadQuestion& question = squad.questions[i];
    SpanExample example{.encoding = {}, .question = i};
    try {
      example.encoding = tokenizer.encode(question.text, squad.contexts.at(question.context));
    } catch (const ArgumentError& error) {
      throw Error(fmt::format("question {}: {}", question.id, error.what()));
    }
    find_answer(question.answers.at(0).bytes, example);
    if (example.encoding.cut > 0) ++result.cut_contexts;
    if (!example.has_answer()) ++result.cut_answers;
    if (example.has_answer() || cut_answers == CutAnswers::keep) {
      result.examples.push_back(std::move(example));
    }
  }
  return result;
}

EncodedDataset span_dataset(const std::vector<SpanExample>& examples, EncodedOptions options) {
  std::vector<Encoding> encodings;
  std::vector<int64_t> spans;
  for (const SpanExample& example : examples) {
    encodings.push_back(example.encoding);
    spans.insert(spans.end(), {example.first, example.last});
  }
  const auto size = static_cast<int64_t>(examples.size());
  return EncodedDataset(std::move(encodings), at::tensor(spans, at::kLong).view({size, 2}),
                        options);
}

std::string span_text(const Squad& squad, const SpanExample& example, int64_t first, int64_t last) {
  const Encoding& encoding = example.encoding;
  for (const auto& [name, t] : {std::pair("first", first), std::pair("last", last)}) {
    const bool is_context =
        t >= 0 && t < encoding.size() && encoding.types[t] == 1 && encoding.words[t] >= 0;
    require(is_context, name, "a token of the context", t);
  }
  require(first <= last, "first", "<= last", fmt::format("{} > {}", first, last));
  const std::string& context = squad.contexts.at(squad.questions.at(example.question).context);
  const int64_t begin = encoding.bytes[first].begin;
  return context.substr(begin, encoding.bytes[last].end - begin);
}

SpanData::SpanData(std::shared_ptr<const Squad> of, std::vector<SpanExample> some,
                   EncodedOptions options)
    : squad(std::move(of)), examples(std::move(some)), data(span_dataset(examples, options)) {
  require(squad != nullptr, "squad", "given", "a null pointer");
}

const SpanExample& SpanData::example(const Batch& batch, int64_t row) const {
  return examples.at(static_cast<size_t>(batch.examples[row].item<int64_t>()));
}

SpanData encode_questions(Squad squad, const WordPiece& tokenizer, CutAnswers cut_answers,
                          int64_t count) {
  std::vector<SquadQuestion> some;
  for (const int64_t i : evenly(static_cast<int64_t>(squad.questions.size()), count)) {
    some.push_back(std::move(squad.questions[static_cast<size_t>(i)]));
  }
  squad.questions = std::move(some);
  const auto shared = std::make_shared<const Squad>(std::move(squad));
  SpanExamples encoded = span_examples(*shared, tokenizer, cut_answers);
  SpanData data(shared, std::move(encoded.examples), {.padding = tokenizer.padding()});
  data.cut_answers = encoded.cut_answers;
  return data;
}

std::pair<SpanData, SpanData> split_by_context(const SpanData& all, uint64_t seed) {
  const auto order =
      shuffled(static_cast<int64_t>(all.squad->contexts.size()), make_generator(seed));
  std::vector<SpanExample> training, held_out;
  for (const SpanExample& example : all.examples) {
    const size_t context = all.squad->questions[example.question].context;
    (order[context] % 10 == 0 ? held_out : training).push_back(example);
  }
  return {SpanData(all.squad, std::move(training), all.data.options()),
          SpanData(all.squad, std::move(held_out), all.data.options())};
}

}  // namespace diffmask
