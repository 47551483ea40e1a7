#pragma once
/// \file
/// Plausibility: do the words that an explainer keeps agree with those that people say decided
/// them? Token F1 (metrics/agreement.hpp) against the rationales of FairRationales.
///
///     Plausibility plausibility;
///     plausibility.add(rationales, "test", test, data_scores(method, test.data), generator);
///     fmt::print("{:.3f}\n", plausibility.f1());

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/zoo/data/rationales.hpp"
#include "diffmask/zoo/data/sentences.hpp"

namespace diffmask {

class Plausibility {
 public:
  /// Adds the sentences of a split that have rationales. A word is chosen where P(z != 0) > 0.5 at
  /// the last depth, the mean over its tokens. Shape: scores (T, D) per sentence.
  void add(const std::vector<RationaleSentence>& rationales, const std::string& split,
           const Sentences& sentences, const std::vector<at::Tensor>& scores,
           const at::Generator& generator);

  /// Means over annotators, then over sentences: of the chosen words, of as many at random, of all
  /// words. 0 where no sentence was added.
  double f1() const { return mean(chosen_); }
  double random_f1() const { return mean(random_); }
  double all_f1() const { return mean(all_); }
  int64_t sentences() const { return sentences_; }

  /// {"diffmask": f1, "random", "uniform": all_f1, "sentences"}.
  std::string json() const;

 private:
  double mean(double sum) const {
    return sentences_ == 0 ? 0.0 : sum / static_cast<double>(sentences_);
  }

  double chosen_ = 0, random_ = 0, all_ = 0;
  int64_t sentences_ = 0;
};

}  // namespace diffmask
