#pragma once
/// \file
/// What methods are compared on: a model, its examples, and what is known of them.
///
///     const Subject subject{.model = model, .data = test, .training = training, .truth = marked};
///     const auto methods = compared_methods({"lrp", "infomask"}, {}, {}, subject.training);
///     const Comparison found = compare(subject.first(200), methods, {.sites = {"encoder"}});
///
/// Tasks of the zoo give theirs: CountingFit::subject, SentenceTask::subject.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "diffmask/data/dataset.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

struct Subject {
  std::shared_ptr<const FrozenModel> model;
  std::shared_ptr<const Dataset> data;                ///< what is explained, N examples
  std::shared_ptr<const Dataset> training = nullptr;  ///< what methods learn from; may be null

  /// What decides, for truth_rows. Shape: (N, T) bool, T the longest example's positions or more.
  /// Undefined where it is not known.
  at::Tensor truth = {};
  /// The model with random parameters (ComparisonOptions::randomised); may be null.
  std::shared_ptr<const FrozenModel> randomised = nullptr;

  /// The same of the first `count` examples; of all of them where `count` is 0 or more than there
  /// are. ArgumentError for a negative count.
  Subject first(int64_t count) const;
};

/// `compare` with the subject's truth and randomised model, where it has them, in place of the
/// options'. ArgumentError unless the truth has a row for each example.
Comparison compare(const Subject& subject, const std::vector<ComparedMethod>& methods,
                   ComparisonOptions options);

}  // namespace diffmask
