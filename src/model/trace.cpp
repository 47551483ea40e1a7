// Native models as programs, by LibTorch's own tracer.
#include <torch/csrc/jit/frontend/tracer.h>

#include "diffmask/core/error.hpp"
#include "diffmask/model/native.hpp"
#include "model/script_graph.hpp"

namespace diffmask {
namespace {

namespace tracer = torch::jit::tracer;

// Marks each state in the trace. What is handed back is another tensor of the same storage, so that
// what reads the state past the tap is known from what reads the site.
class TracingTap : public Tap {
 public:
  at::Tensor operator()(const std::string& site, const at::Tensor& state) override {
    auto& graph = *tracer::getTracingState()->graph;
    torch::jit::Node* node = graph.create(traced_site(), {tracer::getValueTrace(state)});
    node->s_(c10::attr::name, site);
    graph.insertNode(node);
    const auto go_on = tracer::pauseTracing();
    at::Tensor marked = state.detach();
    go_on();
    tracer::setValueTrace(marked, node->output());
    return marked;
  }
};

}  // namespace

std::shared_ptr<const Program> NativeModel::trace(const Inputs& inputs) const {
  const at::NoGradGuard no_grad;
  const auto own = tensors();
  const auto forward = [&](const torch::jit::Stack& values) {
    const tracer::NoWarn for_these_inputs_only;
    for (const auto& [name, tensor] : own) {
      tracer::setValueTrace(tensor, tracer::getTracingState()->graph->addInput());
    }
    Inputs given;
    for (const c10::IValue& value : values) given.push_back(value.toTensor());
    TracingTap tap;
    Pass pass{given, tap, /*resumed=*/false, sites_, nullptr};
    return torch::jit::Stack{run(pass)};
  };
  torch::jit::Stack stack;
  for (const at::Tensor& input : inputs) stack.emplace_back(input.detach().clone());
  const auto unnamed = [](const at::Tensor&) { return std::string(); };
  const auto traced = tracer::trace(std::move(stack), forward, unnamed);

  ProgramBuilder builder;
  std::vector<Slot> slots;
  for (size_t i = 0; i < inputs.size(); ++i) slots.push_back(builder.input(fmt::format("{}", i)));
  for (const auto& [name, tensor] : own) {
    builder.own(name, tensor);
    slots.push_back(builder.constant(tensor.detach()));
  }
  const Slot output = lower_graph(builder, *traced.first->graph, slots);
  return std::make_shared<Program>(builder.finish(output));
}

}  // namespace diffmask
