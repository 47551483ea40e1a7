#include "attribution/propagation/user_rules.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

OperatorCall call_of(const Operation& operation, const std::vector<at::Tensor>& given) {
  std::vector<at::Tensor> outputs;
  for (const at::Tensor& output : operation.outputs) outputs.push_back(output.detach());
  return {operation.step.operation,
          operation.step.module,
          operation.inputs,
          operation.varying,
          std::move(outputs),
          given,
          {},
          {},
          [&operation](const std::vector<at::Tensor>& v) { return operation.gradients(v); },
          [&operation](const std::vector<at::Tensor>& x) {
            std::vector<at::Tensor> outputs;
            for (const at::Tensor& y : operation.at(x).outputs) outputs.push_back(y.detach());
            return outputs;
          }};
}

std::vector<at::Tensor> apply(const OperatorRule& rule, const std::string& pattern,
                              const OperatorCall& call) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> amounts = rule(call);
  const std::string what =
      fmt::format("what the rule of '{}' gives {}{}", pattern, call.name,
                  call.module.empty() ? "" : fmt::format(" in '{}'", call.module));
  require(amounts.size() == call.inputs.size(), what,
          fmt::format("one tensor for each explained input ({})", call.inputs.size()),
          amounts.size());
  for (size_t i = 0; i < amounts.size(); ++i) {
    const std::string name = fmt::format("{}, [{}],", what, i);
    check_shape(name, amounts[i], call.inputs[i].sizes());
    check_dtype(name, amounts[i], call.inputs[i].scalar_type());
  }
  return amounts;
}

}  // namespace diffmask
