#include "diffmask/zoo/nets/graph_net.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "diffmask/core/random.hpp"
#include "diffmask/zoo/data/motif_graphs.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

using Kind = GraphNetOptions::Kind;

const MotifGraph& graphs() {
  static const MotifGraph made = [] {
    MotifGraph graph = make_tree_cycles(make_generator(1), {.depth = 4, .motifs = 6});
    graph.graph.features = at::randn({graph.graph.nodes(), 4}, make_generator(2));
    return graph;
  }();
  return made;
}

std::shared_ptr<GraphNet> make_net(Kind kind, uint64_t seed = 0) {
  auto net = std::make_shared<GraphNet>(
      GraphNetOptions{.kind = kind, .features = 4, .classes = 3, .hidden_size = 6},
      make_generator(seed));
  net->eval();
  return net;
}

NodeDataset nodes() { return NodeDataset(graphs().graph, {0, 7, 31, 33, 50}, 3); }

Inputs whole() { return WholeGraph(graphs().graph, {0}).batch({0}).inputs; }

double largest(const at::Tensor& t) { return t.abs().max().item<double>(); }

// As matrices: H' = relu(A H W + b), A = D^-1/2 (adjacency + I) D^-1/2 or adjacency + I; or A the
// adjacency, and rows of norm 1 before the relu.
at::Tensor dense_logits(const GraphNet& net, Kind kind) {
  const Graph& graph = graphs().graph;
  const auto parameters = net.named_parameters();
  const auto linear = [&](const at::Tensor& h, const std::string& name) {
    return at::matmul(h, parameters[name + ".weight"].t()) + parameters[name + ".bias"];
  };
  at::Tensor a =
      kind == Kind::sum ? at::zeros({graph.nodes(), graph.nodes()}) : at::eye(graph.nodes());
  a.index_put_({graph.edges[1], graph.edges[0]}, at::ones({1}));
  if (kind == Kind::gcn) {
    const at::Tensor root = a.sum(1).rsqrt();
    a = root.unsqueeze(1) * a * root.unsqueeze(0);
  }
  at::Tensor h = graph.features;
  std::vector<at::Tensor> all;
  for (int64_t layer = 0; layer < 3; ++layer) {
    const std::string name = fmt::format("update{}.", layer);
    h = linear(at::matmul(a, h), name + "0");
    if (kind == Kind::sum) h = h / h.norm(2, {1}, true);
    if (kind != Kind::sum || layer < 2) h = h.relu();
    if (kind == Kind::gin) h = linear(h, name + "2").relu();
    all.push_back(h);
  }
  return linear(at::cat(all, 1), "head");
}

TEST(GraphNetTest, IsTheMatrixFormula) {
  at::NoGradGuard no_grad;
  for (const Kind kind : {Kind::gcn, Kind::gin, Kind::sum}) {
    const auto net = make_net(kind);
    const at::Tensor logits = net->node_logits(whole())[0];
    EXPECT_GT(logits.std(0).min().item<double>(), 1e-3) << "logits all alike test nothing";
    EXPECT_LT(largest(logits - dense_logits(*net, kind)), 1e-5 * largest(logits));
  }
}

TEST(GraphNetTest, ANodesComputationGraphIsAllItReads) {
  at::NoGradGuard no_grad;
  for (const Kind kind : {Kind::gcn, Kind::gin, Kind::sum}) {
    const auto net = make_net(kind);
    const NodeDataset data = nodes();
    const auto model = tapped(net, data.batch({0}).inputs);
    const at::Tensor together = model->record(data.batch(iota(5)).inputs).output();
    const at::Tensor expected =
        net->node_logits(whole())[0].index_select(0, at::tensor(data.nodes(), at::kLong));
    EXPECT_LT(largest(together - expected), 1e-5 * largest(expected));
  }
}

TEST(GraphNetTest, ResumesAtEverySite) {
  const NodeDataset data = nodes();
  const Batch batch = data.batch(iota(5));
  const auto model = tapped(make_net(Kind::gcn), batch.inputs);
  EXPECT_EQ(model->site_names(),
            (std::vector<std::string>{"features", "edge", "ends.0", "message.0", "ends.1",
                                      "message.1", "ends.2", "message.2"}));
  const Recording recording = model->record(batch.inputs);
  const int64_t edges = batch.mask.size(1);
  EXPECT_EQ(recording.state("edge").sizes(), at::IntArrayRef({5, edges, 1}));
  EXPECT_EQ(recording.state("message.0").sizes(), at::IntArrayRef({5, edges, 4}));
  EXPECT_EQ(recording.state("ends.2").sizes(), at::IntArrayRef({5, edges, 18}));
  const at::Tensor padding = batch.mask.logical_not().unsqueeze(2);
  ASSERT_TRUE(padding.any().item<bool>());
  for (const std::string& site : model->site_names()) {
    SCOPED_TRACE(site);
    const at::Tensor& state = recording.state(site);
    EXPECT_TRUE(model->resume(recording, site, state).equal(recording.output()));
    EXPECT_FALSE(model->resume(recording, site, 2 * state).equal(recording.output()));
    if (site == "features") continue;
    EXPECT_TRUE(
        model->resume(recording, site, state.masked_fill(padding, NAN)).equal(recording.output()));
  }
}

// An edge whose factor is 0 is no edge, in any layer.
TEST(GraphNetTest, MaskingAnEdgeRemovesIt) {
  at::NoGradGuard no_grad;
  const auto net = make_net(Kind::gin);
  const Batch batch = NodeDataset(graphs().graph, {33}, 3).batch({0});
  const auto model = tapped(net, batch.inputs);
  const Recording recording = model->record(batch.inputs);
  for (int64_t edge = 0; edge < batch.mask.size(1); ++edge) {
    Inputs without = batch.inputs;
    without[2] = batch.mask.clone();
    without[2][0][edge].fill_(false);
    at::Tensor state = recording.state("edge").clone();
    state[0][edge].fill_(0);
    const at::Tensor output = model->resume(recording, "edge", state);
    EXPECT_TRUE(output.equal(model->record(without).output()));
    EXPECT_FALSE(output.equal(recording.output())) << "edge " << edge;
  }
}

TEST(GraphNetTest, RefusesBadInput) {
  const auto with = [](const std::function<void(Inputs&)>& change) {
    return [change] {
      Inputs inputs = whole();
      change(inputs);
      make_net(Kind::gcn)->node_logits(inputs);
    };
  };
  const auto make = [](GraphNetOptions options) {
    return [options] { GraphNet(options, make_generator(0)); };
  };
  expect_refused({
      {"features", make({}), "features has to be >= 1, but got 0"},
      {"classes", make({.features = 1, .classes = 1}), "classes has to be >= 2, but got 1"},
      {"hidden", make({.features = 1, .hidden_size = 0}), "hidden_size has to be >= 1"},
      {"layers", make({.features = 1, .layers = 0}), "layers has to be >= 1, but got 0"},
      {"three inputs", with([](Inputs& x) { x.pop_back(); }), "inputs has to be features, edges"},
      {"width", with([](Inputs& x) { x[0] = x[0].narrow(2, 0, 3); }),
       "features has to be of shape"},
      {"edges", with([](Inputs& x) { x[1] = x[1].to(at::kFloat); }), "edges has to be"},
      {"an end", with([](Inputs& x) { x[1] = x[1] + 10; }), "edges has to be between nodes 0.."},
      {"mask", with([](Inputs& x) { x[2] = x[2].narrow(1, 0, 3); }), "mask has to be of shape"},
      {"degrees", with([](Inputs& x) { x[3] = x[3].narrow(1, 0, 3); }), "degrees has to be of"},
  });
}

}  // namespace
}  // namespace diffmask
