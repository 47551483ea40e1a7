#pragma once
/// \file
/// DeepLIFT's multipliers, operator by operator; private. See attribution/propagation/deeplift.hpp.

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "attribution/propagation/operators.hpp"

namespace diffmask {

/// An operation at the input and at its reference.
struct Difference {
  Operation operation;
  Stack reference_inputs;
  std::vector<at::Tensor> references;         ///< of operation.varying
  std::vector<at::Tensor> output_references;  ///< of operation.outputs
  std::vector<at::Tensor> deciding_references = {}, decided_references = {};

  at::Tensor input_delta(size_t i = 0) const { return operation.varying[i] - references[i]; }
  at::Tensor output_delta(size_t k = 0) const {
    return operation.outputs[k] - output_references[k];
  }
};

/// How a product's difference is split: dy = da b' + a' db, a = c and b = r = 1 / s in a
/// normalisation y = c r.
enum class Products {
  symmetric,  // a' and b' the means of h's and the reference's
  bounded,    // dy = (dc - mean(y) ds) / mean(s), the same of c = y s: no 1 / s gets the upper hand
};

/// The multipliers m of the varying inputs, given those of the outputs:
///
///     sum_i <m_i, x_i - x0_i> = sum_k <given_k, y_k - y0_k>
std::vector<at::Tensor> multipliers(const Difference& difference,
                                    const std::vector<at::Tensor>& given,
                                    Products products = Products::symmetric);

/// Whether its multipliers depend on `products`.
bool has_product(const Operation& operation);

/// Of an operation that decides or has been decided: the multipliers of `varying` and then of
/// `deciding`, given those of the outputs and then of `decided`. What is elementwise is shared by
/// the Shapley value of its inputs, evaluated at h and at the reference in all combinations. A
/// choice of elements by index has its inputs' multipliers alone. Error for an operator without
/// gradients that is neither.
std::vector<at::Tensor> deciding_multipliers(const Difference& difference,
                                             const std::vector<at::Tensor>& given,
                                             Products products);

/// dy / dx, or the slope at x where that is too small a difference to divide by.
at::Tensor slope(const at::Tensor& dy, const at::Tensor& dx, const at::Tensor& x,
                 const std::function<at::Tensor()>& at_x);

/// RevealCancel (Shrikumar et al. 2017, section 3.5.3) for y = f(x), x = w u + b:
///
///     dx+ = sum of the w_i du_i above 0, dx- of those below
///     dy+ = (f(x0 + dx+) - f(x0) + f(x0 + dx- + dx+) - f(x0 + dx-)) / 2,  dy- likewise
///
/// and w's part of dx+ has the multiplier dy+ / dx+. Gives the multipliers of u. Moves between the
/// two (`moves`, the first next to w u + b) are followed.
at::Tensor reveal_cancel(const Difference& affine, const std::vector<Operation>& moves,
                         const Difference& activation, const at::Tensor& given);

}  // namespace diffmask
