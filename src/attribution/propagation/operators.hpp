#pragma once
/// \file
/// What DeepLIFT and LRP know of LibTorch's operators; private.

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

#include "program/tape.hpp"

namespace diffmask {

enum class OperatorKind {
  move,         // each output element is an input element: view, cat, index, dropout at rest
  linear,       // sums and means of inputs
  affine,       // w x + b with weights; a product where the weights vary, too
  product,      // linear in each of two inputs
  quotient,     // x / y
  elementwise,  // y_i = f(x_i)
  batch_norm,   // with running statistics: y_i = a x_i + b
  layer_norm,
  softmax,
  log_softmax,
  attention,  // scaled_dot_product_attention
  maximum,    // each output element is the largest of some input elements
  minimum,
  unknown
};

OperatorKind kind_of(const Operation& operation);

/// sum_to_size where the shapes differ: what was broadcast gets the sum.
at::Tensor reduced(const at::Tensor& amount, const at::Tensor& like);

/// What is explained of an affine operation w x + b, or einsum of any number of operands.
struct Factors {
  int64_t count = 0;     ///< the factors of the product, each as often as it is one
  at::Tensor bias = {};  ///< the bias, undefined where it is not explained
};
Factors factors_of(const Operation& operation);

/// An operation y = w x + b, of which only x is explained.
class Affine {
 public:
  /// Empty for any other operation.
  static std::optional<Affine> of(const Operation& operation);

  const at::Tensor& x() const { return operation_->varying[0]; }
  const at::Tensor& w() const;
  /// Undefined where there is none.
  at::Tensor b() const;

  /// w x + b; undefined b: w x.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b = {}) const;
  /// The gradient of <given, w x> in x.
  at::Tensor backward(const at::Tensor& w, const at::Tensor& given) const;

 private:
  Stack stack(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) const;

  const Operation* operation_;
  size_t x_, w_;
  std::optional<size_t> b_;
};

/// softmax(scale q k' + mask) v, taken apart.
struct Attention {
  at::Tensor q, k, v, scores, weights;
  double scale;
};

/// Of scaled_dot_product_attention's inputs. Empty for grouped queries, which are not supported.
std::optional<Attention> attention_of(const Stack& inputs);

}  // namespace diffmask
