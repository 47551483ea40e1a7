#pragma once
/// \file
/// What DeepLIFT and LRP know of LibTorch's operators; private.

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

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
  normalised,   // layer, group, instance, RMS norm
  deviation,    // std, Euclidean norms: |t c| = t |c| for t > 0
  variance,     // |c|^2
  softmax,
  log_softmax,
  gated,      // x sigmoid(z) of one tensor's two halves: glu
  attention,  // scaled_dot_product_attention
  maximum,    // each output element is the largest of some input elements
  minimum,
  unknown
};

OperatorKind kind_of(const Operation& operation);

/// Whether y_i is a function of the i-th elements of its inputs, which are as large as y or
/// broadcast. `tensors`: those inputs that vary or decide.
bool is_elementwise(const Operation& operation, const std::vector<at::Tensor>& tensors,
                    const at::Tensor& y);

/// Whether it cannot be but constant between its jumps: x > 0, logical_not, floor.
bool is_step(const Operation& operation);

/// y = c r w + b: c = x - mean or x itself, r = 1 / sqrt(mean c^2 + eps), means over the rows of
/// x.reshape({rows, -1}).
struct Normalisation {
  int64_t rows = 0;
  double eps = 0;
  bool centred = true;
  at::Tensor w = {};  // broadcasts against x; undefined: 1
};

/// Empty where it takes its statistics from elsewhere, or where w and b vary.
std::optional<Normalisation> normalisation_of(const Operation& operation);

/// The same with 0 for NaN: rows of attention that see nothing, and values that are never read.
at::Tensor without_nan(const at::Tensor& tensor);
bool has_nan(const std::vector<at::Tensor>& tensors);
Operation without_nan(const Operation& operation);

/// "aten::log in 'encoder'", for errors.
std::string described(const Step& step);

/// sum_to_size where the shapes differ: what was broadcast gets the sum.
at::Tensor reduced(const at::Tensor& amount, const at::Tensor& like);

/// What is explained of an affine operation w x + b, or einsum of any number of operands.
struct Factors {
  int64_t count = 0;     ///< the factors of the product, each as often as it is one
  at::Tensor bias = {};  ///< the bias, undefined where it is not explained
};
Factors factors_of(const Operation& operation);

/// What gave a tensor, if an operation did.
using Makers = std::function<std::optional<Operation>(const at::Tensor&)>;

/// What gave it but for moves of all its elements, and these moves, the last of them first.
struct Origin {
  std::optional<Operation> operation;
  std::vector<Operation> moves = {};
};
Origin origin_of(const at::Tensor& tensor, const Makers& makers);

/// Whether it is 1 / s: rsqrt, reciprocal, 1 / s.
bool is_inverse(const at::Tensor& tensor, const Makers& makers);

/// Whether it is a gate, sigmoid(a) or 1 - sigmoid(a), of a sigmoid that `chosen` does not hold for.
using Chosen = std::function<bool(const Operation&)>;
bool is_gate(const at::Tensor& tensor, const Makers& makers, const Chosen& chosen);

/// An operation y = w x + b, of which only x is explained.
class Affine {
 public:
  /// Empty for any other operation.
  static std::optional<Affine> of(const Operation& operation);

  /// x w + b written as a product, moves, and the sum `operation` with a constant. `product`: where
  /// the first two were found, which has to outlive this.
  static std::optional<Affine> of_sum(const Operation& operation, const Origin& product);

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
  at::Tensor run(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) const;

  const Operation* operation_;
  const std::vector<Operation>* moves_ = nullptr;  // then
  at::Tensor shift_;                               // added last
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
