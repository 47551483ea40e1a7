// Native models as programs, by LibTorch's own tracer.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <memory>
#include <string>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/model/native.hpp"
#include "program/script_graph.hpp"

namespace diffmask {
namespace {

namespace tracer = torch::jit::tracer;

// Records what this thread calls while it lives. (tracer::trace would also clean the graph, and
// knows no node that marks a site.)
class Tracing {
 public:
  Tracing() { tracer::setTracingState(state_); }
  ~Tracing() { tracer::setTracingState(nullptr); }
  Tracing(const Tracing&) = delete;

  torch::jit::Graph& graph() const { return *state_->graph; }

 private:
  std::shared_ptr<tracer::TracingState> state_ = std::make_shared<tracer::TracingState>();
};

// Marks each state in the trace. What is handed back is another tensor of the same storage, so that
// what reads the state past the tap is known from what reads the site.
class TracingTap : public Tap {
 public:
  explicit TracingTap(torch::jit::Graph& graph) : graph_(graph) {}

  at::Tensor operator()(const std::string& site, const at::Tensor& state) override {
    torch::jit::Node* node = graph_.create(traced_site(), {tracer::getValueTrace(state)});
    node->s_(c10::attr::name, site);
    graph_.insertNode(node);
    const auto go_on = tracer::pauseTracing();
    at::Tensor marked = state.detach();
    go_on();
    tracer::setValueTrace(marked, node->output());
    return marked;
  }

 private:
  torch::jit::Graph& graph_;
};

}  // namespace

std::shared_ptr<const Program> NativeModel::program(const Inputs& inputs) const {
  return trace(inputs);
}

std::shared_ptr<const Program> NativeModel::trace(const Inputs& inputs) const {
  const at::NoGradGuard no_grad;
  const auto weights = tensors();
  Inputs given;
  for (const at::Tensor& input : inputs) given.push_back(input.detach().clone());

  ProgramBuilder builder;
  std::vector<Slot> slots;
  const Tracing tracing;
  const tracer::NoWarn for_these_inputs_only;
  for (size_t i = 0; i < given.size(); ++i) {
    tracer::setValueTrace(given[i], tracing.graph().addInput());
    slots.push_back(builder.input(fmt::format("{}", i)));
  }
  for (const auto& [name, tensor] : weights) {
    tracer::setValueTrace(tensor, tracing.graph().addInput());
    const auto go_on = tracer::pauseTracing();
    builder.weight(name, tensor);
    slots.push_back(builder.constant(tensor.detach()));
    go_on();
  }
  TracingTap tap(tracing.graph());
  Pass pass{given, tap, sites_};
  const at::Tensor result = run(pass);
  tracing.graph().registerOutput(tracer::getValueTrace(result));
  const auto stop = tracer::pauseTracing();
  const Slot output = lower_graph(builder, tracing.graph(), slots);
  auto program = std::make_shared<Program>(builder.finish(output));
  // What a forward writes past LibTorch's operators, as at::tensor does, is not in a trace.
  const at::Tensor again = program->record(inputs).output();
  if (again.sizes() != result.sizes() ||
      !again.allclose(result, /*rtol=*/0, /*atol=*/0, /*equal_nan=*/true)) {
    throw Error(
        "the model cannot be traced: its trace gives another output, as where a forward "
        "makes tensors of numbers (at::tensor)");
  }
  stop();
  return program;
}

}  // namespace diffmask
