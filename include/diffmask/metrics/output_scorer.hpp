#pragma once
/// \file
/// What an output is worth, as a few named numbers over a data set: accuracy and F1 of classes,
/// exact match of answers, or any of one's own.
///
/// Two functions make a scorer: `read` takes from each batch what has to be known of its examples,
/// `reduce` makes numbers of all of them together, as macro-F1 needs.
///
///     OutputScorer scorer = scorer::classes(5);
///     OutputScorer mine = scorer::means({{"error"}}, [](const MaskedOutput& of) {
///       return (of.output - of.batch.labels).abs();          // (B): one figure
///     });

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "diffmask/data/batch.hpp"
#include "diffmask/objective/target.hpp"

namespace diffmask {

/// A batch's outputs under a mask.
struct MaskedOutput {
  const Batch& batch;          ///< on the model's device
  const at::Tensor& original;  ///< y = f(x), (B, ...)
  const at::Tensor& output;    ///< y' = f with the mask, (B, ...)
  const at::Tensor& z;         ///< (B, P): the mask; 1 where the batch's mask is false
};

/// A number's name, and whether it is a share, which reports print in percent.
struct Figure {
  std::string name;
  bool is_share = false;
};

struct OutputScorer {
  std::vector<Figure> figures;  ///< K >= 1, in the order of reports

  /// What is to be known of each example. Shape: (B) or (B, C), any C.
  std::function<at::Tensor(const MaskedOutput& of)> read;

  /// The figures of all examples. Shape: rows (N, C) double, on the CPU -> K numbers.
  std::function<std::vector<double>(const at::Tensor& rows)> reduce;

  void validate() const;
};

namespace scorer {

/// Figures that are means over examples of what `read` gives, C = K; an example that has none of
/// one, where it is NaN, does not count for it.
OutputScorer means(std::vector<Figure> figures,
                   std::function<at::Tensor(const MaskedOutput& of)> read);

/// "accuracy" and "macro_f1" of the predicted classes, for data with labels (B).
/// Shape: outputs (B, C); (B) or (B, 1) for one logit, whose classes are its signs.
OutputScorer classes(int64_t classes);

/// "agreement": the share of examples whose decision is the original one. It needs no labels.
OutputScorer agreement(Criterion criterion = same_prediction);

}  // namespace scorer
}  // namespace diffmask
