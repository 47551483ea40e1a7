#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/functional.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/functional.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/zoo/nets/graph_net.hpp"

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/zoo/nets/init.hpp"

namespace diffmask {

namespace nn = torch::nn;

namespace {

class Untapped : public Tap {
 public:
  at::Tensor operator()(const std::string&, const at::Tensor& state) override { return state; }
};

// values[b, index[b, p]]. Shape: values (B, N, F), index (B, P) -> (B, P, F).
at::Tensor at_nodes(const at::Tensor& values, const at::Tensor& index) {
  return values.gather(1, index.unsqueeze(2).expand({-1, -1, values.size(2)}));
}

void check(const Inputs& x, int64_t features) {
  require(x.size() == 4, "inputs", "features, edges, mask and degrees", x.size());
  check_shape("features", x[0], {-1, -1, features});
  const int64_t examples = x[0].size(0), nodes = x[0].size(1);
  check_shape("edges", x[1], {examples, 2, -1});
  check_dtype("edges", x[1], at::kLong);
  check_shape("mask", x[2], {examples, x[1].size(2)});
  check_dtype("mask", x[2], at::kBool);
  check_shape("degrees", x[3], {examples, nodes});
  for (const int64_t end : {x[1].min().item<int64_t>(), x[1].max().item<int64_t>()}) {
    require(end >= 0 && end < nodes, "edges", fmt::format("between nodes 0..{}", nodes - 1), end);
  }
}

}  // namespace

void GraphNetOptions::validate() const {
  require(features >= 1, "features", ">= 1", features);
  require(classes >= 2, "classes", ">= 2", classes);
  require(hidden_size >= 1, "hidden_size", ">= 1", hidden_size);
  require(layers >= 1, "layers", ">= 1", layers);
}

GraphNet::GraphNet(GraphNetOptions options, at::Generator generator) : options_(options) {
  options_.validate();
  const int64_t hidden = options_.hidden_size;
  for (int64_t layer = 0; layer < options_.layers; ++layer) {
    const int64_t in = layer == 0 ? options_.features : hidden;
    nn::Sequential update(nn::Linear(in, hidden));
    if (options_.kind == GraphNetOptions::Kind::sum) {
      update->push_back(nn::Functional([](const at::Tensor& y) {
        return nn::functional::normalize(y, nn::functional::NormalizeFuncOptions().dim(-1));
      }));
    }
    if (options_.kind != GraphNetOptions::Kind::sum || layer + 1 < options_.layers) {
      update->push_back(nn::ReLU());
    }
    if (options_.kind == GraphNetOptions::Kind::gin) {
      update->push_back(nn::Linear(hidden, hidden));
      update->push_back(nn::ReLU());
    }
    updates_.push_back(register_module(fmt::format("update{}", layer), update));
  }
  head_ = register_module("head", nn::Linear(options_.layers * hidden, options_.classes));
  initialise(*this, std::move(generator));
}

at::Tensor GraphNet::states(const Inputs& x, Tap& tap) const {
  check(x, options_.features);
  const at::Tensor source = x[1].select(1, 0), target = x[1].select(1, 1);
  const at::Tensor padding = x[2].logical_not().unsqueeze(2);
  at::Tensor h = tap("features", x[0]);
  const bool adds_self = options_.kind != GraphNetOptions::Kind::sum;
  at::Tensor self = at::full({}, adds_self ? 1.0 : 0.0, h.options());  // a_t
  at::Tensor edge = at::ones_like(padding, h.options());
  if (options_.kind == GraphNetOptions::Kind::gcn) {
    const at::Tensor inverse = 1 / (x[3].to(h.scalar_type()).unsqueeze(2) + 1);
    self = inverse;
    edge = (at_nodes(inverse, source) * at_nodes(inverse, target)).sqrt();
  }
  edge = tap("edge", edge.masked_fill(padding, 0));
  std::vector<at::Tensor> all;
  for (size_t layer = 0; layer < updates_.size(); ++layer) {
    const at::Tensor from = at_nodes(h, source);
    const at::Tensor ends =
        tap(fmt::format("ends.{}", layer),
            at::cat({from, at_nodes(h, target), h.narrow(1, 0, 1).expand_as(from)}, 2));
    const at::Tensor message =
        tap(fmt::format("message.{}", layer), edge * ends.narrow(2, 0, h.size(2)))
            .masked_fill(padding, 0);
    const at::Tensor into = target.unsqueeze(2).expand_as(message);
    h = updates_[layer]->forward((self * h).scatter_add(1, into, message));
    all.push_back(h);
  }
  return at::cat(all, 2);
}

at::Tensor GraphNet::forward(const Inputs& inputs, Tap& tap) const {
  return head_->forward(states(inputs, tap).select(1, 0));
}

at::Tensor GraphNet::node_logits(const Inputs& inputs) const {
  Untapped tap;
  return head_->forward(states(inputs, tap));
}

std::shared_ptr<TappedModel> tapped(std::shared_ptr<GraphNet> net, const Inputs& example) {
  const auto forward = [net](const Inputs& x, Tap& tap) { return net->forward(x, tap); };
  return std::make_shared<TappedModel>(net, forward, example);
}

}  // namespace diffmask
