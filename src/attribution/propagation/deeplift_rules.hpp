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

  at::Tensor input_delta(size_t i = 0) const { return operation.varying[i] - references[i]; }
  at::Tensor output_delta(size_t k = 0) const {
    return operation.outputs[k] - output_references[k];
  }
};

/// The multipliers m of the varying inputs, given those of the outputs:
///
///     sum_i <m_i, x_i - x0_i> = sum_k <given_k, y_k - y0_k>
std::vector<at::Tensor> multipliers(const Difference& difference,
                                    const std::vector<at::Tensor>& given);

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
