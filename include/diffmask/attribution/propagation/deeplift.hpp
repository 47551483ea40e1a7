#pragma once
/// \file
/// DeepLIFT (Shrikumar, Greenside, Kundaje: "Learning Important Features Through Propagating
/// Activation Differences", ICML 2017).
///
///     score_i = m_i (h_i - b_i),   sum_i score_i = target(h) - target(b)
///
/// h is a site's state, b its reference, and the multipliers m go from the target backward through
/// the model's operators: m_x = sum over y of m_y (what x gives to dy) / dx. By operator, so that
/// reused, inline and functional activations are right:
///
///     y linear in x           its gradient
///     y = f(x), elementwise   Rescale: dy / dx; or RevealCancel where x = w u + b
///     products, x / y         each factor gets the other's mean of h and b, which is exact
///     x > 0, where, x[x < 0] = 0   as functions of the condition and of the values, too: an
///                             activation that is written by hand is rescaled as a whole
///     softmax, attention, gru, lstm, rnn   taken apart into the above
///     layer, group, instance, RMS norm     y = c r, c = x - mean, r = 1 / s: a product, see below
///     std, Euclidean norms    ds = (c + c0) dc / (s + s0)
///     max pooling             what grew goes to the winner at h, what shrank to the winner at b
///     any other               the mean gradient between b and h, by 8 Gauss-Legendre points
///
/// unless DeepLiftOptions::rules has a rule of one's own for it (operator_rule.hpp).
///
///     DeepLift method(model, {.sites = {"embedding"}, .target = target::class_index(1)});
///     Attribution attribution = method.attribute(batch);  // gap: what the scores miss
///
/// Of softmax p = exp(x - l) the exponentials go by Rescale, and l by sum_j dp_j = 0.
/// Recurrent operators, packed or not, are taken apart as src/program/recurrent.hpp writes them,
/// step by step. einsum is a product of as many factors as are explained.
///
/// What divides by a spread s: the symmetric product rule, dy = dc (r + r0) / 2 + dr (c + c0) / 2.
/// From a reference that is nearly constant, as zeros are, r0 is up to 1 / sqrt(eps), and each such
/// layer multiplies the scores by half of it, in terms that cancel in their sum. Where rounding is
/// all that is left of a row's sum (it misses more than 0.001 of the difference), the row has the
/// symmetric rule of c = y s in its place,
///
///     dy = (dc - (y + y0) / 2 ds) / ((s + s0) / 2),
///
/// which is complete as well and never larger than 2 / s; products and quotients likewise.
///
/// Half precision is computed in float. A condition or an index that depends on a state otherwise
/// than by comparisons and logic, as argmax does, has no share: the gap holds it.
///
/// Captum 0.9 agrees for affine layers, average pooling and activations. For softmax it subtracts
/// the multipliers' mean over the whole batch, it leaves products and layer norm at h's gradient,
/// and its max pooling misses with references other than zero: its scores do not add up there.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/attribution/propagation/operator_rule.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

struct DeepLiftEntry {
  /// Which operators, such as "aten::conv*", and of which calls of modules (a site's name; of a
  /// native model the site that comes next); patterns as of FrozenModel::select.
  std::string operators;
  OperatorRule rule;
  std::string modules = "**";
};

struct DeepLiftOptions {
  /// What elementwise functions do. RevealCancel (section 3.5.3) sees terms above and below 0 that
  /// cancel in w u + b, at about three times the cost; elsewhere the two are the same.
  enum class Activation { rescale, reveal_cancel };
  Activation activation = Activation::rescale;

  /// References, of which scores are averaged: several, or a random one several times. If empty,
  /// the one of AttributionOptions::fill.
  std::vector<Fill> references = {};

  std::vector<DeepLiftEntry> rules =
      {};  ///< the first that fits; else the operator's own, as above
};

/// `gap` is target(h) - target(b) - the sum of all features' scores, a mean over references.
class DeepLift : public Attributor {
 public:
  /// The model: one with a program, as FrozenModel::program gives; native ones are traced on each
  /// batch.
  /// Throws ArgumentError for options that are not valid or sites that the model does not have.
  explicit DeepLift(std::shared_ptr<const FrozenModel> model, AttributionOptions options = {},
                    DeepLiftOptions deeplift = {});

  /// One pass, one more from each site for each reference, and as many walks backward, of as many
  /// examples at once as options.passes allow. Besides what Attributor says, ArgumentError for a
  /// site that the output does not depend on, or a model without a program; Error, naming the
  /// operator, for one without gradients (quantized::linear_dynamic), one that gives another shape
  /// for the reference, and multipliers that are not finite.
  Attribution attribute(const Batch& batch) const override;

 private:
  class References;
  Attribution explain(const Batch& part, int64_t begin, References& references) const;

  std::shared_ptr<const FrozenModel> model_;
  AttributionOptions options_;
  DeepLiftOptions deeplift_;
};

}  // namespace diffmask
