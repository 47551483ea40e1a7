#pragma once
/// \file
/// Targets: which number of an output is explained.
///
/// A target maps an output y, and the output y0 of the original pass, to one number per row, shape
/// (B). Its gradient is taken with respect to y. Any function of this type will do.

#include <ATen/core/Tensor.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/where.h>
#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/objective/outputs.hpp"

namespace diffmask {

using Target = std::function<at::Tensor(const at::Tensor& output, const at::Tensor& original)>;

/// Whether the decision is the original one. Shape: outputs of n rows -> (n) bool.
using Criterion = std::function<at::Tensor(const at::Tensor& output, const at::Tensor& original)>;

/// The same class is predicted; of a single logit, its sign is the same.
/// Shape: outputs (B, C); (B) or (B, 1).
inline at::Tensor same_prediction(const at::Tensor& output, const at::Tensor& original) {
  if (is_single(output)) return output.flatten().gt(0).eq(original.flatten().gt(0));
  require(output.dim() == 2, "output",
          "of shape (B), (B, 1) or (B, classes): any other needs a criterion of its own",
          shape_string(output.sizes()));
  return output.argmax(1).eq(original.argmax(1));
}

namespace target {

/// The output is (B, classes); else ArgumentError.
inline void check_classes(const at::Tensor& output) {
  require(output.dim() == 2, "output",
          "of shape (B, classes): any other needs a target of its own (target::element({t, c}), a "
          "position and a class; target::scalar, the only number; or one of output_kinds())",
          shape_string(output.sizes()));
}

/// The logit of the class that the original pass predicts: y[argmax y0]. Shape: outputs (B, C).
inline at::Tensor predicted(const at::Tensor& output, const at::Tensor& original) {
  check_classes(output);
  check_shape("original", original, output.sizes());
  return output.gather(1, original.argmax(1, /*keepdim=*/true)).squeeze(1);
}

/// The logit of one class for all rows. The function throws ArgumentError where the output has not
/// that many classes. Shape: outputs (B, C).
inline Target class_index(int64_t index) {
  return [index](const at::Tensor& output, const at::Tensor&) {
    check_classes(output);
    require(index >= 0 && index < output.size(1), "target",
            fmt::format("in 0..{}, the output's classes", output.size(1) - 1), index);
    return output.select(1, index);
  };
}

/// One number of each row, by its index along every axis but the batch's: element({c}) is a class
/// of (B, C), element({t, c}) class c of token t of (B, T, C). An index below 0 counts from the end. The
/// function throws ArgumentError for outputs of other axes, or where an index is outside.
inline Target element(std::vector<int64_t> index) {
  return [index = std::move(index)](const at::Tensor& output, const at::Tensor&) {
    const bool bare = output.dim() == 1 && index.size() == 1;  // (B) is (B, 1)
    at::Tensor rest = bare ? output.unsqueeze(1) : output;
    require(
        rest.dim() == static_cast<int64_t>(index.size()) + 1, "target",
        fmt::format("an index for each axis of the output but the batch's, {} of them",
                    rest.dim() - 1),
        fmt::format("{}, for an output of shape {}", index.size(), shape_string(output.sizes())));
    for (const int64_t i : index) {
      const int64_t size = rest.size(1);
      require(
          i >= -size && i < size, "target",
          fmt::format("in 0..{} for an output of shape {}", size - 1, shape_string(output.sizes())),
          i);
      rest = rest.select(1, i);
    }
    return rest;
  };
}

/// The only number of an output. Shape: outputs (B) or (B, 1).
inline at::Tensor scalar(const at::Tensor& output, const at::Tensor&) {
  require(is_single(output), "output", "of shape (B) or (B, 1): any other needs a target",
          shape_string(output.sizes()));
  return output.flatten();
}

/// The same target of log-probabilities, log softmax(y), in place of logits.
inline Target log_probability(Target of) {
  return [of = std::move(of)](const at::Tensor& output, const at::Tensor& original) {
    check_classes(output);
    return of(at::log_softmax(output, 1), original);
  };
}

/// log p of the class that the original output predicts; a single logit, (B) or (B, 1), is of two
/// classes. Shape: outputs (B, C) -> (B).
inline at::Tensor predicted_log_probability(const at::Tensor& output, const at::Tensor& original) {
  return log_probability(predicted)(as_classes(output), as_classes(original));
}

/// The logit of the predicted class; of a single logit y, y where the original one is above 0, else
/// -y: what speaks for the prediction, whichever it is.
/// Shape: outputs (B, C), (B) or (B, 1) -> (B).
inline at::Tensor predicted_logit(const at::Tensor& output, const at::Tensor& original) {
  if (output.dim() == 2 && output.size(1) > 1) return predicted(output, original);
  const at::Tensor y = scalar(output, original);
  return at::where(original.flatten().gt(0), y, -y);
}

/// A target applied and checked: throws ArgumentError unless it gives one finite number per row.
inline at::Tensor value(const Target& target, const at::Tensor& output,
                        const at::Tensor& original) {
  require(target != nullptr, "target", "a function", "none");
  const at::Tensor result = target(output, original);
  check_shape("target(output, original)", result, {output.size(0)});
  check_finite("target(output, original)", result.detach());
  return result;
}

}  // namespace target
}  // namespace diffmask
