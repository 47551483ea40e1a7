#include "attribution/propagation/not_finite.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <string>
#include <vector>

#include "attribution/propagation/operators.hpp"
#include "attribution/propagation/program_method.hpp"
#include "diffmask/program/program.hpp"
#include "program/program_graph.hpp"
#include "program/tape.hpp"

namespace diffmask {
namespace {

bool all_finite(const std::vector<at::Tensor>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor& tensor) {
    return !tensor.defined() || tensor.isfinite().all().item<bool>();
  });
}

std::string in_original_pass(const Program& program, const Tape& tape) {
  const Step *infinite = nullptr, *nan = nullptr;
  for (const Step& step : program.graph().steps) {
    std::vector<at::Tensor> outputs;
    for (const Slot slot : step.outputs) append_tensors(tape.value(slot), outputs);
    const bool has_nan = std::any_of(outputs.begin(), outputs.end(), [](const at::Tensor& output) {
      return output.isnan().any().item<bool>();
    });
    if (!nan && has_nan) nan = &step;
    if (!infinite && !nan && !all_finite(outputs)) infinite = &step;
  }
  // Masks add -inf where no NaN comes of it.
  if (!nan && (!infinite || all_finite({tape.output()}))) return "";
  if (!nan) return fmt::format("{} is the first that gives infinity", described(*infinite));
  const std::string first = fmt::format("{} is the first that gives NaN", described(*nan));
  return infinite ? fmt::format("{}, and {} infinity", first, described(*infinite)) : first;
}

std::string in_gradients(const ProgramPass& pass, const Target& target) {
  const at::Tensor output = pass.output();
  const at::Tensor seed = target_gradient(target, output, output);
  std::string first;
  pass.tape().walk(seed.reshape_as(pass.tape().output()), pass.slots(), {},
                   [&](const Operation& operation, const std::vector<at::Tensor>& given) {
                     std::vector<Tape::Share> shares;
                     const std::vector<at::Tensor> amounts = operation.gradients(given);
                     if (first.empty() && all_finite(given) && !all_finite(amounts)) {
                       first = fmt::format("{} is the first whose gradient is not finite",
                                           described(operation.step));
                     }
                     for (size_t i = 0; i < amounts.size(); ++i)
                       shares.push_back({operation.varying[i], amounts[i]});
                     return shares;
                   });
  return first;
}

}  // namespace

std::string not_finite_because(const FrozenModel& model, const AttributionOptions& options,
                               const Batch& batch) {
  try {
    const Batch moved = batch.to(model.device());
    const auto program = model.program(moved.inputs);
    const Tape tape(program->graph(), moved.inputs, {});
    const std::string cause = in_original_pass(*program, tape);
    if (!cause.empty()) return cause;
    return in_gradients(ProgramPass(model, options.resolved(&model), moved, false), options.target);
  } catch (const std::exception&) {
    return "";  // the error that is being explained matters more
  }
}

}  // namespace diffmask
