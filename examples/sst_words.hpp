// The treebank's sentences and phrases, and what it says of the words that an explainer keeps.
#pragma once
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/agreement.hpp"
#include "diffmask/zoo/data/encoded.hpp"
#include "diffmask/zoo/data/rationales.hpp"
#include "diffmask/zoo/data/trees.hpp"

namespace sst {

namespace dm = diffmask;
using nlohmann::json;

inline const std::vector<std::string> kSentiments = {"very_negative", "negative", "neutral",
                                                     "positive", "very_positive"};

// Sentences as they are, and as the encoder reads them.
struct Part {
  std::vector<dm::LabelledSentence> sentences;
  dm::EncodedDataset data;
};

inline Part encoded(std::vector<dm::LabelledSentence> sentences, const dm::WordPiece& tokenizer,
                    const dm::EncodedOptions& options) {
  std::vector<dm::Encoding> encodings;
  std::vector<int64_t> labels;
  for (const dm::LabelledSentence& sentence : sentences) {
    encodings.push_back(tokenizer.encode_words(sentence.words));
    labels.push_back(sentence.label);
  }
  dm::EncodedDataset data(std::move(encodings), at::tensor(labels, at::kLong), options);
  return {std::move(sentences), std::move(data)};
}

// The sentences and, drawn from each, so many of its phrases of `kShortest` words and more.
inline std::vector<dm::LabelledSentence> with_phrases(std::vector<dm::LabelledSentence> sentences,
                                                      int64_t most,
                                                      const at::Generator& generator) {
  constexpr size_t kShortest = 4;
  std::vector<dm::LabelledSentence> drawn;
  for (const dm::LabelledSentence& sentence : sentences) {
    std::vector<dm::LabelledSentence> phrases;
    for (const auto& [label, first, words] : sentence.phrases) {
      if (words < kShortest) continue;
      const auto begin = sentence.words.begin() + static_cast<int64_t>(first);
      phrases.push_back({label, {begin, begin + static_cast<int64_t>(words)}, {}});
    }
    const auto order = dm::shuffled(static_cast<int64_t>(phrases.size()), generator);
    for (size_t i = 0; i < order.size() && i < static_cast<size_t>(most); ++i) {
      drawn.push_back(std::move(phrases[static_cast<size_t>(order[i])]));
    }
  }
  sentences.insert(sentences.end(), drawn.begin(), drawn.end());
  return sentences;
}

// The scores of each sentence. Shape: (T, depths) each.
inline std::vector<at::Tensor> attribute_all(const dm::DiffMask& method, const dm::Dataset& data) {
  std::vector<at::Tensor> scores(static_cast<size_t>(data.size()));
  for (const auto& examples : dm::length_batches(data, 64)) {
    const auto attribution = method.attribute(data.batch(examples));
    for (size_t row = 0; row < examples.size(); ++row) {
      scores[static_cast<size_t>(examples[row])] =
          attribution.scores[static_cast<int64_t>(row)].narrow(0, 0, data.length(examples[row]));
    }
  }
  return scores;
}

// Mean number of depths that a word survives, by the label that its leaf has in the tree: the sum
// over depths of P(z != 0), the mean over a word's tokens.
inline json survival(const std::vector<at::Tensor>& scores, const Part& part) {
  std::vector<double> sums(kSentiments.size(), 0.0), counts(kSentiments.size(), 0.0);
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto& labels = part.sentences[i].word_labels;
    const auto depths = dm::word_means(part.data.encodings()[i], scores[i].sum(1),
                                       static_cast<int64_t>(labels.size()));
    for (size_t w = 0; w < labels.size(); ++w) {
      sums[static_cast<size_t>(labels[w])] += depths[w];
      counts[static_cast<size_t>(labels[w])] += 1;
    }
  }
  json result;
  for (size_t c = 0; c < sums.size(); ++c) result[kSentiments[c]] = sums[c] / counts[c];
  return result;
}

// The mean over sentences of the correlation between their words' scores, all depths together.
inline double rank_agreement(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double sum = 0.0, count = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double rho = dm::spearman(a[i].flatten(), b[i].flatten());
    if (!std::isfinite(rho)) continue;
    sum += rho;
    count += 1;
  }
  return sum / std::max(count, 1.0);
}

// The words between spaces that hold a chosen word of the tree, whose words are smaller. Both are
// the same text without its spaces, but for a few sentences, which give none.
inline std::vector<bool> between_spaces(const std::vector<bool>& chosen,
                                        const std::vector<std::string>& leaves,
                                        const std::vector<std::string>& words) {
  std::string of_leaves, of_words;
  std::vector<bool> characters;
  for (size_t i = 0; i < leaves.size(); ++i) {
    of_leaves += leaves[i];
    characters.resize(of_leaves.size(), chosen[i]);
  }
  for (const std::string& word : words) of_words += word;
  if (of_leaves != of_words) return {};
  std::vector<bool> result;
  auto from = characters.begin();
  for (const std::string& word : words) {
    const auto to = from + static_cast<int64_t>(word.size());
    result.push_back(std::find(from, to, true) != to);
    from = to;
  }
  return result;
}

// Token F1 against what people say decided them, the mean over annotators, then over sentences.
struct Plausibility {
  double diffmask = 0, random = 0, uniform = 0;
  int64_t sentences = 0;

  void add(const std::vector<dm::RationaleSentence>& all, const std::string& split,
           const Part& part, const std::vector<at::Tensor>& scores,
           const at::Generator& generator) {
    for (const dm::RationaleSentence& sentence : all) {
      if (sentence.split != split || sentence.line < 0) continue;
      const auto i = static_cast<size_t>(sentence.line);
      const auto& leaves = part.sentences.at(i).words;
      std::vector<bool> kept;
      for (const double p : dm::word_means(part.data.encodings()[i], scores[i].select(1, -1),
                                           static_cast<int64_t>(leaves.size()))) {
        kept.push_back(p > 0.5);
      }
      const auto chosen = between_spaces(kept, leaves, sentence.words);
      if (chosen.empty()) continue;
      std::vector<bool> drawn(chosen.size());
      const auto order = dm::shuffled(static_cast<int64_t>(chosen.size()), generator);
      for (size_t w = 0; w < chosen.size(); ++w) drawn[w] = chosen[static_cast<size_t>(order[w])];
      const std::vector<bool> everything(chosen.size(), true);
      const auto share = 1.0 / static_cast<double>(sentence.rationales.size());
      for (const dm::Rationale& rationale : sentence.rationales) {
        diffmask += share * dm::choice_f1(chosen, rationale.is_decisive);
        random += share * dm::choice_f1(drawn, rationale.is_decisive);
        uniform += share * dm::choice_f1(everything, rationale.is_decisive);
      }
      ++sentences;
    }
  }

  json to_json() const {
    const double n = std::max<double>(static_cast<double>(sentences), 1.0);
    return {{"diffmask", diffmask / n},
            {"random", random / n},
            {"uniform", uniform / n},
            {"sentences", sentences}};
  }
};

}  // namespace sst
