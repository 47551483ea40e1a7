#include "attribution/propagation/lrp_rules.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

using Kind = OperatorKind;
using Tensors = std::vector<at::Tensor>;

[[noreturn]] void no_rule(const Operation& operation, const char* which) {
  throw Error(fmt::format("LRP has no {} for {}", which, described(operation.step)));
}

// Of operators with weights: where x_i w_ik is the share of input i in z_k.
class Weighted {
 public:
  Weighted(const Affine& affine, const at::Tensor& given, const LrpRule& rule)
      : affine_(affine), given_(given), rule_(rule), x_(affine.x().detach()), w_(affine.w()) {}

  at::Tensor operator()(const at::Tensor& output) const {
    switch (rule_.kind) {
      case LrpRule::Kind::gamma:
        return gamma(output);
      case LrpRule::Kind::alpha_beta:
        return alpha_beta();
      case LrpRule::Kind::z_box:
        return z_box();
      case LrpRule::Kind::flat: {
        const at::Tensor ones = at::ones_like(w_);
        return affine_.backward(ones, share(affine_.forward(at::ones_like(x_), ones)));
      }
      default:
        return x_ * affine_.backward(w_, share(output));
    }
  }

 private:
  at::Tensor share(const at::Tensor& z) const { return given_ / stabilised(z, rule_.epsilon); }
  at::Tensor up(const at::Tensor& tensor) const { return tensor.clamp_min(0); }
  at::Tensor down(const at::Tensor& tensor) const { return tensor.clamp_max(0); }

  // The share of x's part above 0 by weights v and of that below by u: x+ v R / z + x- u R / z.
  at::Tensor by_sign(const at::Tensor& v, const at::Tensor& u, const at::Tensor& bias,
                     const at::Tensor& where = {}) const {
    at::Tensor part = share(affine_.forward(up(x_), v, bias) + affine_.forward(down(x_), u));
    if (where.defined()) part = part * where;
    return up(x_) * affine_.backward(v, part) + down(x_) * affine_.backward(u, part);
  }

  at::Tensor bias(const std::function<at::Tensor(const at::Tensor&)>& change) const {
    const at::Tensor b = affine_.b();
    return b.defined() ? change(b) : b;
  }

  at::Tensor gamma(const at::Tensor& output) const {
    const auto more_up = [&](const at::Tensor& t) { return t + rule_.gamma * up(t); };
    const auto more_down = [&](const at::Tensor& t) { return t + rule_.gamma * down(t); };
    return by_sign(more_up(w_), more_down(w_), bias(more_up), output > 0) +
           by_sign(more_down(w_), more_up(w_), bias(more_down), output < 0);
  }

  at::Tensor alpha_beta() const {
    const auto above = [&](const at::Tensor& t) { return up(t); };
    const auto below = [&](const at::Tensor& t) { return down(t); };
    const at::Tensor positive = by_sign(up(w_), down(w_), bias(above));
    if (rule_.beta == 0) return positive;
    return (1 + rule_.beta) * positive - rule_.beta * by_sign(down(w_), up(w_), bias(below));
  }

  at::Tensor z_box() const {
    const at::Tensor low = rule_.low.to(x_.options()).expand_as(x_).contiguous();
    const at::Tensor high = rule_.high.to(x_.options()).expand_as(x_).contiguous();
    const at::Tensor part = share(affine_.forward(x_, w_) - affine_.forward(low, up(w_)) -
                                  affine_.forward(high, down(w_)));
    return x_ * affine_.backward(w_, part) - low * affine_.backward(up(w_), part) -
           high * affine_.backward(down(w_), part);
  }

  const Affine& affine_;
  const at::Tensor& given_;
  const LrpRule& rule_;
  at::Tensor x_, w_;
};

// What output k lost, to its inputs in proportion to |x_i w_ik|; evenly to those that have a weight
// to it where all of these are 0.
at::Tensor spread(const Affine& affine, const at::Tensor& lost) {
  const at::Tensor w = affine.w().abs(), x = affine.x().detach().abs();
  const at::Tensor size = affine.forward(x, w), none = size == 0;
  const at::Tensor each = (lost / size).masked_fill(none, 0);
  at::Tensor result = x * affine.backward(w, each);
  if (none.any().item<bool>()) {
    const at::Tensor ones = at::ones_like(w);
    const at::Tensor inputs = affine.forward(at::ones_like(x), ones);
    result = result + affine.backward(ones, (lost / inputs).masked_fill(none.logical_not(), 0));
  }
  return result;
}

at::Tensor weighted(const Affine& affine, const at::Tensor& output, const at::Tensor& given,
                    const LrpRule& rule, const LrpOptions& options) {
  const at::Tensor result = Weighted(affine, given, rule)(output);
  if (options.rest == LrpOptions::Rest::lost || rule.kind != LrpRule::Kind::epsilon) return result;
  const at::Tensor without_bias = affine.forward(affine.x().detach(), affine.w());
  return result + spread(affine, given * (1 - without_bias / stabilised(output, rule.epsilon)));
}

// Of complex numbers, the real and the imaginary part are two.
at::Tensor by_parts(const at::Tensor& a, const at::Tensor& b,
                    const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& f) {
  if (!a.is_complex()) return f(a, b);
  return at::view_as_complex(
      f(at::view_as_real(a.resolve_conj()), at::view_as_real(b.resolve_conj())));
}

// x_i dy_k/dx_i R_k / y_k, for what is linear in each input.
Tensors proportional(const Operation& operation, const at::Tensor& given, double epsilon) {
  const at::Tensor y = operation.outputs[0].detach();
  const auto over = [&](const at::Tensor& r, const at::Tensor& z) {
    return r / stabilised(z, epsilon);
  };
  Tensors each = {by_parts(given, y, over)};
  // Further outputs, as a mean beside a deviation, have rules of their own.
  while (each.size() < operation.outputs.size()) {
    each.push_back(at::zeros_like(operation.outputs[each.size()]));
  }
  Tensors result = operation.gradients(each);
  for (size_t i = 0; i < result.size(); ++i) {
    result[i] = by_parts(result[i], operation.varying[i].detach(), std::multiplies<>());
  }
  return result;
}

// The shares of a sum's terms; those of constants and of epsilon are lost, or go to the terms by
// their weights, which are 1 in x - y, too.
Tensors linear(const Operation& operation, const at::Tensor& given, const LrpOptions& options) {
  const std::string& name = operation.step.operation;
  const bool adds = name == "aten::add" || name == "aten::sub" || name == "aten::rsub";
  const bool spreads = options.rest == LrpOptions::Rest::spread && !given.is_complex();
  if (spreads && adds && operation.varying.size() == 1) {
    return {reduced(given, operation.varying[0])};
  }
  Tensors shares = proportional(operation, given, options.epsilon);
  if (!spreads) return shares;
  const at::Tensor y = operation.outputs[0].detach();
  const at::Tensor lost = given * (1 - y / stabilised(y, options.epsilon));
  if (adds) {
    for (size_t i = 0; i < shares.size(); ++i) {
      shares[i] = shares[i] + reduced(lost / 2, operation.varying[i]);
    }
    return shares;
  }
  Tensors ones, zeros;
  for (const at::Tensor& varying : operation.varying) {
    ones.push_back(at::ones_like(varying));
    zeros.push_back(at::zeros_like(varying));
  }
  const auto at = [&](const Tensors& terms) { return operation.at(terms).outputs[0].detach(); };
  const at::Tensor weights = at(ones) - at(zeros);
  const Tensors rest = operation.gradients({(lost / weights).masked_fill(weights == 0, 0)});
  for (size_t i = 0; i < shares.size(); ++i) shares[i] = shares[i] + rest[i];
  return shares;
}

// w x + b of which several parts are explained: an equal share to each factor of the product.
Tensors factors(const Operation& operation, const at::Tensor& given, double epsilon) {
  const Factors factors = factors_of(operation);
  Tensors shares = proportional(operation, given, epsilon);
  for (size_t i = 0; i < shares.size(); ++i) {
    const bool is_bias = factors.bias.defined() && operation.varying[i].is_same(factors.bias);
    if (!is_bias) shares[i] = shares[i] / factors.count;
  }
  return shares;
}

// std, norms: |t x| = t |x|, so sum_i x_i dy/dx_i = y; var: twice that. Several outputs: one after
// the other, the others being means.
Tensors deviation(const Operation& operation, const Tensors& given, double degree,
                  const LrpOptions& options) {
  at::Tensor sum;
  for (size_t k = 0; k < given.size(); ++k) {
    Operation one = operation;
    one.outputs = {operation.outputs[k]};
    const at::Tensor share = proportional(one, given[k], options.epsilon)[0].nan_to_num(0);
    sum = sum.defined() ? sum + share : k == 0 ? share / degree : share;
  }
  return {sum};
}

// What is multiplied by 1 / s is divided by s, and what is multiplied by a gate is weighted by it:
// it gets all. Else both get half, as where both are the same.
Tensors product(const Operation& operation, const at::Tensor& given, const LrpOptions& options,
                const Around& around) {
  const Tensors& factors = operation.varying;
  if (given.is_complex()) {
    Tensors shares = proportional(operation, given, options.epsilon);
    for (at::Tensor& share : shares) share = share / static_cast<double>(factors.size());
    return shares;
  }
  if (factors.size() == 1) return {reduced(given, factors[0])};
  const auto scales = [&](const auto& is_scale) {
    std::vector<bool> is;
    for (const at::Tensor& factor : factors) is.push_back(is_scale(factor));
    return std::count(is.begin(), is.end(), true) == 1 ? is : std::vector<bool>();
  };
  std::vector<bool> scale =
      scales([&](const at::Tensor& t) { return is_inverse(t, around.makers); });
  if (scale.empty()) {
    scale = scales([&](const at::Tensor& t) { return is_gate(t, around.makers, around.chosen); });
  }
  Tensors result;
  for (size_t i = 0; i < factors.size(); ++i) {
    if (scale.empty()) {
      result.push_back(reduced(given / 2, factors[i]));
    } else {
      result.push_back(scale[i] ? at::zeros_like(factors[i]) : reduced(given, factors[i]));
    }
  }
  return result;
}

// The share of x in what was given, with the rest in proportion to |x|; evenly to what is not masked
// where all of it is 0.
at::Tensor with_rest(const at::Tensor& share, const at::Tensor& x, const at::Tensor& given,
                     const at::Tensor& masked, int64_t dim, LrpOptions::Rest rest) {
  const at::Tensor result = share.masked_fill(masked, 0);
  if (rest == LrpOptions::Rest::lost) return result;
  const at::Tensor size = x.abs().masked_fill(masked, 0), total = size.sum(dim, true);
  const at::Tensor seen = masked.logical_not().to(share.scalar_type());
  const at::Tensor part =
      at::where(total > 0, size / total, seen / seen.sum(dim, true).clamp_min(1));
  return result + part * (given - result).sum(dim, true);
}

at::Tensor softmax(const at::Tensor& x, const at::Tensor& s, const at::Tensor& given, int64_t dim,
                   LrpOptions::Rest rest) {
  const at::Tensor masked = s == 0;
  const at::Tensor share = x.masked_fill(masked, 0) * (given - s * given.sum(dim, true));
  return with_rest(share, x, given, masked, dim, rest);
}

// y_k = x_k - l, l = log sum_j exp(x_j), dl/dx = s: x_i sum_k (1[i = k] - s_i) R_k / y_k.
at::Tensor log_softmax(const at::Tensor& x, const at::Tensor& y, const at::Tensor& given,
                       int64_t dim, const LrpOptions& options) {
  const at::Tensor masked = x == -std::numeric_limits<double>::infinity();
  const at::Tensor seen = given.masked_fill(masked, 0);
  const at::Tensor each = seen / stabilised(y.masked_fill(masked, 0), options.epsilon);
  const at::Tensor share = x.masked_fill(masked, 0) * (each - y.exp() * each.sum(dim, true));
  return with_rest(share, x, seen, masked, dim, options.rest);
}

// o = s v, s = softmax(z), z = scale q k' + mask.
Tensors attention(const Operation& operation, const at::Tensor& given, const LrpRule* chosen,
                  const LrpOptions& options) {
  const auto a = attention_of(operation.inputs);
  if (!a) no_rule(operation, "rule for grouped queries");
  const bool stops = chosen && chosen->kind == LrpRule::Kind::stop;
  const at::Tensor part = given / stabilised(operation.outputs[0].detach(), options.epsilon);
  const at::Tensor of_v = a->v * at::matmul(a->weights.transpose(-2, -1), part);
  Tensors shares = {at::Tensor(), at::Tensor(), stops ? of_v : of_v / 2};
  if (!stops) {
    const at::Tensor of_weights = a->weights * at::matmul(part, a->v.transpose(-2, -1)) / 2;
    const at::Tensor of_scores = softmax(a->scores, a->weights, of_weights, -1, options.rest);
    const at::Tensor products = at::matmul(a->q, a->k.transpose(-2, -1)) * a->scale;
    const at::Tensor each = of_scores / stabilised(products, options.epsilon) * a->scale / 2;
    shares[0] = a->q * at::matmul(each, a->k);
    shares[1] = a->k * at::matmul(each.transpose(-2, -1), a->q);
  }
  Tensors result;
  for (const at::Tensor& varying : operation.varying) {
    at::Tensor sum = at::zeros_like(varying);
    for (size_t i = 0; i < shares.size(); ++i) {
      const bool is_this = operation.inputs[i].toTensor().is_same(varying);
      if (is_this && shares[i].defined()) sum = sum + reduced(shares[i], varying);
    }
    result.push_back(sum);
  }
  return result;
}

// x - mean(x), of a normalisation written out.
bool is_centring(const Operation& operation, const Makers& makers) {
  const Tensors& terms = operation.varying;
  if (operation.step.operation != "aten::sub" || terms.size() != 2 || operation.repeated ||
      !operation.inputs[0].toTensor().is_same(terms[0]) ||
      operation.outputs[0].sizes() != terms[0].sizes()) {
    return false;
  }
  const auto mean = makers(terms[1]);
  return mean && mean->step.operation == "aten::mean" && mean->varying[0].is_same(terms[0]);
}

// R_x = R_y of the one input that has the output's shape.
Tensors identity(const Operation& operation, const at::Tensor& given) {
  if (operation.varying.size() != 1 || operation.varying[0].sizes() != given.sizes()) {
    no_rule(operation, "identity rule");
  }
  return {given};
}

}  // namespace

at::Tensor stabilised(const at::Tensor& z, double epsilon) {
  return z + at::where(z < 0, at::scalar_tensor(-epsilon, z.options()),
                       at::scalar_tensor(epsilon, z.options()));
}

at::Tensor relevance(const Affine& affine, const at::Tensor& output, const at::Tensor& given,
                     const LrpRule* chosen, const LrpOptions& options) {
  const LrpRule usual = lrp::epsilon(options.epsilon);
  return weighted(affine, output, given, chosen ? *chosen : usual, options);
}

std::vector<at::Tensor> relevance(const Operation& operation, const std::vector<at::Tensor>& given,
                                  const LrpRule* chosen, const LrpOptions& options,
                                  const Around& around) {
  const Kind kind = kind_of(operation);
  if (kind == Kind::attention) return attention(operation, given[0], chosen, options);
  if (chosen && chosen->kind == LrpRule::Kind::stop) return {};
  if (chosen && chosen->kind == LrpRule::Kind::identity) return identity(operation, given[0]);
  if (const auto affine = Affine::of(operation)) {
    return {relevance(*affine, operation.outputs[0].detach(), given[0], chosen, options)};
  }
  if (chosen) no_rule(operation, "weights, which the table's rule is made for,");
  switch (kind) {
    case Kind::move:
    case Kind::maximum:
    case Kind::minimum:
      return operation.gradients(given);
    case Kind::linear:
      if (is_centring(operation, around.makers))
        return {given[0], at::zeros_like(operation.varying[1])};
      return linear(operation, given[0], options);
    case Kind::affine:
      return factors(operation, given[0], options.epsilon);
    case Kind::product:
      return product(operation, given[0], options, around);
    case Kind::quotient:
      if (operation.varying.size() > 1 && !operation.repeated) {
        return {reduced(given[0], operation.varying[0])};
      }
      return identity(operation, given[0]);
    case Kind::elementwise:
    case Kind::batch_norm:
    case Kind::normalised:
      return identity(operation, given[0]);
    case Kind::deviation:
    case Kind::variance:
      if (operation.varying.size() != 1) break;
      return deviation(operation, given, kind == Kind::variance ? 2 : 1, options);
    case Kind::softmax:
      return {softmax(operation.varying[0].detach(), operation.outputs[0].detach(), given[0],
                      operation.inputs[1].toInt(), options.rest)};
    case Kind::log_softmax:
      return {log_softmax(operation.varying[0].detach(), operation.outputs[0].detach(), given[0],
                          operation.inputs[1].toInt(), options)};
    case Kind::gated:
      return {at::cat({given[0], at::zeros_like(given[0])}, operation.inputs[1].toInt())};
    case Kind::attention:
    case Kind::unknown:
      break;
  }
  no_rule(operation, "rule");
}

}  // namespace diffmask
