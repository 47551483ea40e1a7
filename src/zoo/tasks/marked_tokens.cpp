#include "diffmask/zoo/tasks/marked_tokens.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace diffmask {

at::Tensor marked_tokens(const std::vector<RationaleSentence>& rationales, const std::string& split,
                         const Sentences& sentences) {
  at::Tensor marked = at::zeros({sentences.data.size(), sentences.data.longest()}, at::kBool);
  for (const RationaleSentence& sentence : rationales) {
    if (sentence.split != split || sentence.line < 0) continue;
    std::vector<bool> decisive(sentence.words.size());
    for (size_t w = 0; w < decisive.size(); ++w) {
      const auto votes = std::count_if(sentence.rationales.begin(), sentence.rationales.end(),
                                       [&](const Rationale& of) { return of.is_decisive[w]; });
      decisive[w] = 2 * static_cast<size_t>(votes) >= sentence.rationales.size();
    }
    const auto i = static_cast<size_t>(sentence.line);
    const auto leaves = carried_over(decisive, sentence.words, sentences.sentences.at(i).words);
    const auto& words = sentences.data.encodings()[i].words;
    for (size_t t = 0; t < words.size() && !leaves.empty(); ++t) {
      if (words[t] < 0 || !leaves[static_cast<size_t>(words[t])]) continue;
      marked[sentence.line][static_cast<int64_t>(t)].fill_(true);
    }
  }
  return marked;
}

}  // namespace diffmask
