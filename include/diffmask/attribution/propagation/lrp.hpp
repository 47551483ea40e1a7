#pragma once
/// \file
/// Layer-wise relevance propagation (Bach, Binder, Montavon, Klauschen, Mueller, Samek: "On
/// Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance
/// Propagation", PLoS ONE 2015).
///
///     R = y . dt/dy at the output y, of the target t: a logit itself, where that is the target
///     R_i = sum_k R_(i <- k),  handed from each operator's outputs k to its inputs i by a rule
///
/// The rules of operators with weights, z_k = sum_i x_i w_ik + b_k, are chosen by a table; the
/// first entry that fits counts. What has no weights has one rule:
///
///     view, cat, index, index_put, scatter, ...   relevance moves with the elements; max pooling: to the winner
///     y_i = f(x_i); layer, batch, group, instance, RMS norm   R_x = R_y (AttnLRP, Achtibat et al. 2024, prop. 3.4)
///     sums, means, x + y, FFT     epsilon
///     std, norms, var             x_i dy/dx_i, in proportion
///     x y, both explained         half to each, by epsilon in matrix products (prop. 3.3)
///     x g, g a gate; glu          all to x
///     x - mean(x)                 all to x, as in layer norm
///     softmax                     x (R - s sum R), s the output (prop. 3.1)
///     log softmax                 x (r - s sum r), r = R / y by epsilon
///     attention                   taken apart into products and a softmax
///     gru, lstm, rnn              taken apart into linear maps, activations, products and sums
///     x / y, x rsqrt(y)           all to x
///
/// x w + b is one operator with weights also where it is written as a product, moves such as view
/// and permute, and a sum with a constant. Conditions and masks are constants.
///
/// A gate is a sigmoid or a hard sigmoid, or 1 minus one. It weights what it is multiplied by, which
/// gets all (Arras, Montavon, Mueller, Samek, WASSA 2017). Half to each would hand on relevance at a
/// gate's input a near 0, where the gate is 1/2 whatever a's terms are: their shares R x_i / a have
/// no bound, and grow from step to step of an LSTM. An entry for the sigmoid's operator, such as
/// identity, asks for half to each.
///
/// einsum has weights where one of its two operands is explained, else it is a product, of which
/// each explained operand gets an equal part.
///
/// The rule of log softmax is softmax's: y_k linearised at x, x_i dy_k/dx_i R_k / y_k with
/// dy_k/dx_i = 1[i = k] - s_i, s = exp(y). Since y_k = x_k - sum_i s_i x_i - H(s), it leaves the
/// entropy H, which is rest like a bias; and a difference of two log-probabilities has the
/// relevance of the logits' own.
///
/// The parts of recurrent operators, packed or not, are those of src/program/recurrent.hpp: entries
/// for operators with weights, or for "aten::sigmoid", reach the gates. An entry for the
/// whole, as "aten::gru", fits nothing.
///
/// Other operators are an error that names them and where they stand, unless the table has an entry
/// for them: with a rule of one's own (operator_rule.hpp), it can be any operator.
///
///     Lrp method(model, {.sites = {"embedding"}},
///                {.rules = {{.modules = "encoder.**", .rule = lrp::gamma()}}});
///     Attribution attribution = method.attribute(batch);  // gap: what was not conserved

#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/attribution/propagation/operator_rule.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

/// Writing z for a denominator, it is z + epsilon sign(z) that is divided by (sign(0) = 1).
struct LrpRule {
  enum class Kind { epsilon, gamma, alpha_beta, z_box, flat, identity, stop, custom };
  Kind kind = Kind::epsilon;
  double epsilon = 1e-6;           ///< > 0, small beside z
  double gamma = 0, beta = 0;      ///< >= 0
  at::Tensor low = {}, high = {};  ///< of z_box
  OperatorRule function = {};      ///< of custom
};

namespace lrp {

/// x_i w_ik R_k / z_k; with epsilon -> 0 it is LRP-0.
LrpRule epsilon(double epsilon = 1e-6);

/// As epsilon with w + gamma w+ in place of w where x_i > 0, w + gamma w- where x_i < 0; where z_k
/// < 0 the other way round (Montavon et al. 2019; with signs: Andeol et al. 2021).
LrpRule gamma(double gamma = 0.25);

/// (1 + beta) times the share in terms above 0, minus beta times that in those below (alpha = 1 +
/// beta).
LrpRule alpha_beta(double beta = 1);

/// z^B, for inputs in [low, high]: x_i w_ik - low_i w_ik+ - high_i w_ik- in place of x_i w_ik
/// (Montavon et al. 2017). Shape: what broadcasts against the input.
LrpRule z_box(at::Tensor low, at::Tensor high);

/// The same share to each input that has a weight.
LrpRule flat();

/// R_x = R_y, of the input that is explained; of operators that give its shape.
LrpRule identity();

/// Nothing is handed on: the output counts as a constant. With it on "aten::softmax" attention
/// weights are not explained (Ali et al. 2022).
LrpRule stop();

/// A rule of one's own, of any operator.
LrpRule custom(OperatorRule rule);

}  // namespace lrp

struct LrpEntry {
  /// Which calls of modules (a site's name; of a native model the site that comes next), and which
  /// operators, such as "aten::conv*"; patterns as of FrozenModel::select. If `operators` is empty,
  /// those with weights.
  std::string modules = "**", operators = "";
  LrpRule rule = {};
};

struct LrpOptions {
  std::vector<LrpEntry> rules = {};  ///< the first that fits; else the operator's own, as above
  double epsilon = 1e-6;             ///< of rules that are not chosen by the table; > 0

  /// What becomes of the share of biases, other constants, epsilon (of weights and of sums) and what
  /// softmax and its logarithm do not hand on: it is lost, as published, or spread over the inputs,
  /// so that relevance is conserved. Weights spread it in proportion to |x_i w_ik|, softmax to
  /// |x_i|, and evenly where all of these are 0: what an input near 0 is given, layers before it
  /// blow up.
  enum class Rest { lost, spread };
  Rest rest = Rest::lost;
};

/// `gap` is (sum R of the output - sum R of the site) / |sum R of the output| (over 1 where that is
/// 0): the relative gap of
/// conservation at a site that everything passes through. Beside other paths it holds what went
/// there.
class Lrp : public Attributor {
 public:
  /// The model: one with a program, as FrozenModel::program gives; native ones are traced on each
  /// batch.
  /// Throws ArgumentError for options that are not valid or sites that the model does not have.
  explicit Lrp(std::shared_ptr<const FrozenModel> model, AttributionOptions options = {},
               LrpOptions lrp = {});

  /// One pass and one walk backward for all sites, of as many examples at once as options.passes
  /// allow; the options' fill is not used. Besides what Attributor says, ArgumentError for a site
  /// that the output does not depend on, or a model without a program; Error for an operator
  /// without a rule or with relevance that is not finite.
  Attribution attribute(const Batch& batch) const override;

 private:
  Attribution explain(const Batch& part) const;

  std::shared_ptr<const FrozenModel> model_;
  AttributionOptions options_;
  LrpOptions lrp_;
};

}  // namespace diffmask
