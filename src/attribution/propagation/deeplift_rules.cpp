#include "attribution/propagation/deeplift_rules.hpp"

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/quadrature.hpp"

namespace diffmask {
namespace {

using Kind = OperatorKind;
using Tensors = std::vector<at::Tensor>;

// The mean gradient along the straight line from the reference (Aumann and Shapley): complete but
// for the quadrature, and exact for what is linear in each of two inputs at its one midpoint.
Tensors mean_gradient(const Difference& d, const Tensors& given, int points) {
  const auto [nodes, weights] = gauss_legendre(points);
  Tensors result(d.references.size());
  for (size_t node = 0; node < nodes.size(); ++node) {
    Tensors between;
    for (size_t i = 0; i < d.references.size(); ++i) {
      between.push_back(at::lerp(d.references[i], d.operation.varying[i].detach(), nodes[node]));
    }
    const Tensors gradients = d.operation.at(between).gradients(given);
    for (size_t i = 0; i < result.size(); ++i) {
      const at::Tensor part = gradients[i] * weights[node];
      result[i] = result[i].defined() ? result[i] + part : part;
    }
  }
  return result;
}

constexpr int kPoints = 8;

// (p - p0) / (log p - log p0), between the two; 0 where either is 0.
at::Tensor logarithmic_mean(const at::Tensor& p, const at::Tensor& p0) {
  const at::Tensor logs = p.log() - p0.log(), ratio = (p - p0) / logs;
  const at::Tensor mean = at::where(logs.abs() < 1e-3, (p * p0).sqrt(), ratio);
  return mean.masked_fill((p == 0).logical_or(p0 == 0), 0);
}

// Above 0 also where all of them are.
at::Tensor total(const at::Tensor& means, int64_t dim) {
  return means.sum(dim, true).clamp_min(std::numeric_limits<float>::min());
}

// p = exp(x - l), l = log sum_j exp(x_j): by Rescale, dp = L (dx - dl), with L the logarithmic mean
// of p and p0; and since p sums to 1 at both, sum_j dp_j = 0, so that
//
//     dl = sum_j L_j dx_j / sum_j L_j
at::Tensor softmax(const at::Tensor& p, const at::Tensor& p0, const at::Tensor& given,
                   int64_t dim) {
  const at::Tensor mean = logarithmic_mean(p, p0), weighted = mean * given;
  return weighted - mean / total(mean, dim) * weighted.sum(dim, true);
}

at::Tensor log_softmax(const at::Tensor& y, const at::Tensor& y0, const at::Tensor& given,
                       int64_t dim) {
  const at::Tensor mean = logarithmic_mean(y.exp(), y0.exp());
  return given - mean / total(mean, dim) * given.sum(dim, true);
}

// y = c r w + b, r = 1 / s, s = sqrt(v + eps), v = mean c^2: a product of c and r, r by Rescale; or
// of y and s, s by Rescale.
at::Tensor normalised(const Difference& d, const Normalisation& n, const at::Tensor& given,
                      Products products) {
  const at::Tensor x = d.operation.varying[0].detach();
  const auto by_row = [&](const at::Tensor& tensor) { return tensor.reshape({n.rows, -1}); };
  const auto parts = [&](const at::Tensor& tensor) {
    const at::Tensor rows = by_row(tensor), c = n.centred ? rows - rows.mean(1, true) : rows;
    return std::pair{c, (c.square().mean(1, true) + n.eps).sqrt()};
  };
  const auto [c, s] = parts(x);
  const auto [c0, s0] = parts(d.references[0]);
  const at::Tensor scaled = by_row(n.w.defined() ? given * n.w : given), middle = (c + c0) / 2;
  at::Tensor of_c;
  if (products == Products::symmetric) {
    const at::Tensor slope = -1 / (s * s0 * (s + s0));  // dr / dv
    of_c = scaled * (1 / s + 1 / s0) / 2 + 2 * middle * slope * (scaled * middle).mean(1, true);
  } else {
    const at::Tensor mean = (s + s0) / 2, y = (c / s + c0 / s0) / 2;
    of_c = (scaled - middle / mean * (scaled * y).mean(1, true)) / mean;
  }
  return (n.centred ? of_c - of_c.mean(1, true) : of_c).view_as(x);
}

// s^2 = |c|^2, so ds = (c + c0) dc / (s + s0), c / s being ds / dc at x; where both are 0, 0.
Tensors deviation(const Difference& d, const Tensors& given) {
  const at::Tensor s = d.operation.outputs[0].detach(), s0 = d.output_references[0];
  const at::Tensor sum = s + s0, safe = sum.masked_fill(sum == 0, 1);
  const auto at = [&](const Operation& operation, const at::Tensor& own) {
    Tensors shares = given;
    shares[0] = given[0] * own / safe;
    for (size_t k = 1; k < shares.size(); ++k) shares[k] = given[k] / 2;  // the means
    return operation.gradients(shares)[0].nan_to_num(0);
  };
  return {at(d.operation, s) + at(d.operation.at(d.references), s0)};
}

bool is_euclidean(const Operation& operation) {
  const std::string& name = operation.step.operation;
  if (name.find("norm") == std::string::npos || name == "aten::frobenius_norm") return true;
  const c10::IValue& order = operation.inputs[1];
  return order.isNone() || (order.isScalar() && order.toScalar().toDouble() == 2);
}

// dy = da (w b + (1 - w) b0) + db (w a0 + (1 - w) a), for any w. A factor that is broadcast is
// a scale: it has its harmonic mean, as 1 / s in a normalisation. Else what goes over the larger of
// a b0 and a0 b counts less.
Tensors bounded_product(const Difference& d, const at::Tensor& given) {
  const at::Tensor a = d.operation.varying[0].detach(), b = d.operation.varying[1].detach();
  const at::Tensor &a0 = d.references[0], &b0 = d.references[1];
  const auto share = [](const at::Tensor& over, const at::Tensor& beside) {
    const at::Tensor sum = over + beside;
    return at::where(sum == 0, at::full_like(sum, 0.5), over / sum);
  };
  const at::Tensor w = a.numel() > b.numel()   ? share(b0.abs(), b.abs())
                       : a.numel() < b.numel() ? share(a.abs(), a0.abs())
                                               : share((a * b0).abs(), (a0 * b).abs());
  return {reduced(given * (w * b + (1 - w) * b0), a), reduced(given * (w * a0 + (1 - w) * a), b)};
}

// What grew is the doing of the winner at x, what shrank that of the winner at the reference.
Tensors maximum(const Difference& d, Tensors given, bool smallest) {
  Tensors losses = given;
  for (size_t k = 0; k < given.size(); ++k) {
    const at::Tensor delta = d.output_delta(k);
    given[k] = given[k] * (smallest ? delta.clamp_max(0) : delta.clamp_min(0));
    losses[k] = losses[k] * (smallest ? delta.clamp_min(0) : delta.clamp_max(0));
  }
  Tensors result = d.operation.gradients(given);
  const Tensors lost = d.operation.at(d.references).gradients(losses);
  for (size_t i = 0; i < result.size(); ++i) {
    const at::Tensor delta = d.input_delta(i), still = delta == 0;
    result[i] = ((result[i] + lost[i]) / delta.masked_fill(still, 1)).masked_fill(still, 0);
  }
  return result;
}

// Symmetric: each of x and 1 / y gets the other's mean; bounded: q y = x, so dq = (dx - q' dy) / y'.
Tensors quotient(const Difference& d, const at::Tensor& given, Products products) {
  const auto at = [&](const Stack& inputs, size_t i) {
    const at::Tensor& like = d.operation.outputs[0];
    return inputs[i].isTensor() ? inputs[i].toTensor().detach()
                                : at::scalar_tensor(inputs[i].toScalar(), like.options());
  };
  const at::Tensor x = at(d.operation.inputs, 0), y = at(d.operation.inputs, 1);
  const at::Tensor x0 = at(d.reference_inputs, 0), y0 = at(d.reference_inputs, 1);
  Tensors result;
  for (const at::Tensor& varying : d.operation.varying) {
    const c10::IValue& first = d.operation.inputs[0];
    const bool over = first.isTensor() && first.toTensor().is_same(varying);
    if (products == Products::bounded) {
      const at::Tensor of_x = given * 2 / (y + y0);
      result.push_back(reduced(over ? of_x : -of_x * (x / y + x0 / y0) / 2, varying));
      continue;
    }
    const at::Tensor share = over ? given * (1 / y + 1 / y0) / 2 : -given * (x + x0) / (2 * y * y0);
    result.push_back(reduced(share, varying));
  }
  return result;
}

// scores = scale q k' and weights v are products, between them a softmax.
Tensors attention(const Difference& d, const at::Tensor& given) {
  const auto a = attention_of(d.operation.inputs), b = attention_of(d.reference_inputs);
  if (!a || !b) return mean_gradient(d, {given}, kPoints);
  const at::Tensor of_weights = at::matmul(given, ((a->v + b->v) / 2).transpose(-2, -1));
  const at::Tensor of_scores = softmax(a->weights, b->weights, of_weights, -1) * a->scale;
  const at::Tensor shares[] = {
      at::matmul(of_scores, (a->k + b->k) / 2),
      at::matmul(of_scores.transpose(-2, -1), (a->q + b->q) / 2),
      at::matmul(((a->weights + b->weights) / 2).transpose(-2, -1), given)};
  Tensors result;
  for (const at::Tensor& varying : d.operation.varying) {
    at::Tensor sum = at::zeros_like(varying);
    for (size_t i = 0; i < 3; ++i) {
      if (d.operation.inputs[i].toTensor().is_same(varying))
        sum = sum + reduced(shares[i], varying);
    }
    result.push_back(sum);
  }
  return result;
}

bool is_unary(const Operation& operation) {
  return operation.varying.size() == 1 && operation.outputs.size() == 1 &&
         operation.outputs[0].sizes() == operation.varying[0].sizes();
}

}  // namespace

at::Tensor slope(const at::Tensor& dy, const at::Tensor& dx, const at::Tensor& x,
                 const std::function<at::Tensor()>& at_x) {
  // Where both have one sign, dx is as small as that only if they are nearly the same; then the
  // quotient is all rounding.
  const double nearly = x.scalar_type() == at::kDouble ? 1e-12 : 1e-4;
  const at::Tensor close = dx.abs() <= nearly * x.abs();
  const at::Tensor quotient = (dy / dx).conj();  // a gradient, where these are complex
  if (!close.any().item<bool>()) return quotient;
  return at::where(close, at_x(), quotient);
}

bool has_product(const Operation& operation) {
  const Kind kind = kind_of(operation);
  return kind == Kind::normalised ||
         ((kind == Kind::product || kind == Kind::quotient) && operation.varying.size() == 2);
}

std::vector<at::Tensor> multipliers(const Difference& d, const Tensors& given, Products products) {
  const Operation& operation = d.operation;
  const bool single = operation.varying.size() == 1 && !operation.repeated;
  const Kind kind = kind_of(operation);
  switch (kind) {
    case Kind::move:
    case Kind::linear:
    case Kind::batch_norm:
      return operation.gradients(given);
    case Kind::affine:  // its gradient is a polynomial, of one degree less than it has factors
      return single
                 ? operation.gradients(given)
                 : mean_gradient(d, given, static_cast<int>(factors_of(operation).count + 1) / 2);
    case Kind::product:
      if (single) return operation.gradients(given);
      return products == Products::bounded && operation.varying.size() == 2
                 ? bounded_product(d, given[0])
                 : mean_gradient(d, given, 1);
    case Kind::elementwise: {
      if (!is_unary(operation)) {
        return is_elementwise(operation, operation.varying, operation.outputs[0])
                   ? deciding_multipliers(d, given, products)
                   : mean_gradient(d, given, kPoints);
      }
      const at::Tensor x = operation.varying[0].detach();
      const auto at_x = [&] { return operation.gradients({at::ones_like(x)})[0]; };
      const at::Tensor m = given[0] * slope(d.output_delta(), d.input_delta(), x, at_x);
      return {x.is_complex() ? m : at::real(m)};
    }
    case Kind::softmax:
    case Kind::log_softmax: {
      const auto rule = kind == Kind::softmax ? softmax : log_softmax;
      return {rule(operation.outputs[0].detach(), d.output_references[0], given[0],
                   operation.inputs[1].toInt())};
    }
    case Kind::normalised:
      if (const auto n = normalisation_of(operation))
        return {normalised(d, *n, given[0], products)};
      break;
    case Kind::deviation:
      if (!single || !is_euclidean(operation)) break;
      return deviation(d, given);
    case Kind::variance:
      return mean_gradient(d, given, 1);
    case Kind::maximum:
    case Kind::minimum:
      return maximum(d, given, kind == Kind::minimum);
    case Kind::quotient:
      return single && operation.inputs[0].isTensor() &&
                     operation.inputs[0].toTensor().is_same(operation.varying[0])
                 ? operation.gradients(given)
                 : quotient(d, given[0], products);
    case Kind::attention:
      return attention(d, given[0]);
    case Kind::gated:
    case Kind::unknown:
      break;
  }
  return mean_gradient(d, given, kPoints);
}

at::Tensor reveal_cancel(const Difference& below, const std::vector<Operation>& moves,
                         const Difference& activation, const at::Tensor& given) {
  const Affine affine = *Affine::of(below.operation);
  const at::Tensor du = below.input_delta().detach(), w = affine.w();
  const at::Tensor up = du.clamp_min(0), down = du.clamp_max(0);
  const at::Tensor above = w.clamp_min(0), under = w.clamp_max(0);
  const auto moved = [&](at::Tensor value) {
    for (const Operation& move : moves) value = move.at({value}).outputs[0].detach();
    return value;
  };
  const at::Tensor plus = moved(affine.forward(up, above) + affine.forward(down, under));
  const at::Tensor minus = moved(affine.forward(up, under) + affine.forward(down, above));
  const auto f = [&](const at::Tensor& x) {
    return activation.operation.at({x}).outputs[0].detach();
  };
  const at::Tensor& x0 = activation.references[0];
  const at::Tensor y0 = f(x0), y_plus = f(x0 + plus), y_minus = f(x0 + minus),
                   y = f(x0 + minus + plus);
  const auto part = [&](const at::Tensor& dy, const at::Tensor& dx) {
    at::Tensor m = (given * dy / dx).masked_fill(dx == 0, 0);  // then all its terms are 0
    for (size_t i = moves.size(); i-- > 0;) m = moves[i].gradients({m})[0];
    return m;
  };
  const at::Tensor m_plus = part((y_plus - y0 + y - y_minus) / 2, plus);
  const at::Tensor m_minus = part((y_minus - y0 + y - y_plus) / 2, minus);
  const at::Tensor if_up = affine.backward(above, m_plus) + affine.backward(under, m_minus);
  const at::Tensor if_down = affine.backward(under, m_plus) + affine.backward(above, m_minus);
  return at::where(du == 0, (if_up + if_down) / 2, at::where(du > 0, if_up, if_down));
}

}  // namespace diffmask
