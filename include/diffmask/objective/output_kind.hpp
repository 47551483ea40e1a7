#pragma once
/// \file
/// Kinds of outputs: what is explained, compared and counted as right where a model gives classes,
/// a quantity, tags of tokens, and so on.
///
///     const OutputKind& kind = output_kind("tokens");
///     method.fit(data, {.epsilon = 0.1, .divergence = kind.divergence});
///
/// | kind | output y | target | divergence D | decision |
/// |---|---|---|---|---|
/// | classes | (B, C), C >= 2 | y[argmax y0] | categorical | argmax y |
/// | logit | (B), (B, 1) | y, or -y where y0 <= 0 | bernoulli | y > 0 |
/// | regression | (B), (B, 1), (B, K) | y; of K > 1 one has to be named | squared_error | none |
/// | labels | (B, L) | sum_l +-y_l, the signs of y0 | multi_label | y > 0, all labels |
/// | tokens | (B, T, C) | mean_t y[t, argmax y0[t]] | tokens | argmax of all tokens |
/// | next_token | (B, T, C) | y[T - 1, argmax y0[T - 1]] | next_token | argmax of the last |
/// | span | (B, T, 2) | y[argmax start, 0] + y[argmax end, 1] | span | start and end |
///
/// A shape tells `classes` and nothing else: one number may be a logit or a quantity, (B, T, 2)
/// tags or a span. `told_kind` gives what it tells, or an error that names the choices.

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "diffmask/objective/divergence.hpp"
#include "diffmask/objective/target.hpp"

namespace diffmask {

struct OutputKind {
  std::string name, shape;  ///< "tokens", "(B, T, C)"
  Divergence divergence;    ///< D, 0 where the outputs agree
  Target target;            ///< the number that is explained where none is named
  Target log_probability;   ///< log p of the original decision, by which rankings are measured; of
                            ///< a regression -D: p is 1 where nothing changed
  Criterion same_decision;  ///< whether the decision is the original one; empty: there is none

  /// How right an output is by true labels, (B) double: a share, or for a regression the mean
  /// absolute error. Shape: labels (B) int64 of classes, a logit (0 or 1) and the next token;
  /// (B, L) bool of labels; (B, T) int64 of tokens, -100: not counted; (B, 2) int64 of spans; the
  /// output's of a regression.
  std::function<at::Tensor(const at::Tensor& output, const at::Tensor& labels)> accuracy;

  /// Throws ArgumentError for an output of another shape.
  void check(const at::Tensor& output) const;
};

/// All of them, in the table's order.
const std::vector<OutputKind>& output_kinds();

/// The one of this name; ArgumentError, with the nearest names, where there is none.
const OutputKind& output_kind(const std::string& name);

/// What the shape tells: `classes` for (B, C), C >= 2; else ArgumentError with the kinds that it
/// may be.
const OutputKind& told_kind(const at::Tensor& output);

}  // namespace diffmask
