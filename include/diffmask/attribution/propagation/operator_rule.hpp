#pragma once
/// \file
/// Rules of one's own for DeepLIFT and LRP: what an operator hands from its outputs to its inputs.
///
/// Both methods go from the target backward through the model's operators y = op(x). At each, what
/// has arrived at the outputs y is turned by a rule into what the inputs x are given; what several
/// operators give to one tensor is added up. A rule should lose nothing:
///
///     LRP        gives relevances R:  sum_i sum R_(x_i) = sum_k sum R_(y_k)
///     DeepLIFT   gives multipliers m: sum_i <m_(x_i), x_i - x0_i> = sum_k <m_(y_k), y_k - y0_k>
///
/// where x0, y0 are the values in the pass with the reference. LRP's rule "each factor of a running
/// product has the same part in it" and its use:
///
///     const OperatorRule cumprod = [](const OperatorCall& call) -> std::vector<at::Tensor> {
///       const at::Tensor factors = at::arange(1, call.outputs[0].size(1) + 1).view({-1, 1});
///       return {(call.given[0] / factors).flip(1).cumsum(1).flip(1)};
///     };
///     Lrp method(model, {}, {.rules = {{.operators = "aten::cumprod",
///                                       .rule = lrp::custom(cumprod)}}});

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace c10 {
struct IValue;
}

namespace diffmask {

/// A call of an operator, y = op(x), as a rule sees it. Rules are run without gradients.
struct OperatorCall {
  std::string name;    ///< "aten::relu", also where the model has "aten::relu_"
  std::string module;  ///< the call of a module that it is part of, as LrpEntry::modules has it

  /// All arguments in the schema's order; <ATen/core/ivalue.h> reads them, as in
  /// `arguments[1].toTensor()`. An explained one is_same as one of `inputs`.
  const std::vector<c10::IValue>& arguments;

  std::vector<at::Tensor> inputs;   ///< x: the explained tensors, each once also in x * x
  std::vector<at::Tensor> outputs;  ///< y: those that depend on x
  std::vector<at::Tensor> given;    ///< what has arrived at each y. Shape: as y
  std::vector<at::Tensor> reference_inputs, reference_outputs;  ///< x0, y0 of DeepLIFT; else empty

  /// sum_k v_k dy_k/dx_i at x, for each i. Shape: v as y, the result as x.
  std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& v)> gradients;

  /// y at other x, all other arguments being the same.
  std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& x)> forward;
};

/// What each of `call.inputs` is given: one tensor for each, of its shape. ArgumentError, naming
/// the operator and the rule, where it gives something else.
using OperatorRule = std::function<std::vector<at::Tensor>(const OperatorCall& call)>;

}  // namespace diffmask
