#include "diffmask/zoo/tasks/plausibility.hpp"

#include <nlohmann/json.hpp>

#include "diffmask/data/dataset.hpp"
#include "diffmask/metrics/agreement.hpp"

namespace diffmask {

void Plausibility::add(const std::vector<RationaleSentence>& rationales, const std::string& split,
                       const Sentences& sentences, const std::vector<at::Tensor>& scores,
                       const at::Generator& generator) {
  for (const RationaleSentence& sentence : rationales) {
    if (sentence.split != split || sentence.line < 0 || sentence.rationales.empty()) continue;
    const auto i = static_cast<size_t>(sentence.line);
    const auto& leaves = sentences.sentences.at(i).words;
    std::vector<bool> kept;
    for (const double p : word_means(sentences.data.encodings()[i], scores.at(i).select(1, -1),
                                     static_cast<int64_t>(leaves.size()))) {
      kept.push_back(p > 0.5);
    }
    const auto chosen = carried_over(kept, leaves, sentence.words);
    if (chosen.empty()) continue;
    std::vector<bool> drawn(chosen.size());
    const auto order = shuffled(static_cast<int64_t>(chosen.size()), generator);
    for (size_t w = 0; w < chosen.size(); ++w) drawn[w] = chosen[static_cast<size_t>(order[w])];
    const std::vector<bool> everything(chosen.size(), true);
    const double share = 1.0 / static_cast<double>(sentence.rationales.size());
    for (const Rationale& rationale : sentence.rationales) {
      chosen_ += share * choice_f1(chosen, rationale.is_decisive);
      random_ += share * choice_f1(drawn, rationale.is_decisive);
      all_ += share * choice_f1(everything, rationale.is_decisive);
    }
    ++sentences_;
  }
}

std::string Plausibility::json() const {
  const nlohmann::json figures = {{"diffmask", f1()},
                                  {"random", random_f1()},
                                  {"uniform", all_f1()},
                                  {"sentences", sentences_}};
  return figures.dump();
}

}  // namespace diffmask
