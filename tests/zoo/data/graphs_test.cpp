#include "diffmask/zoo/data/graphs.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "diffmask/core/random.hpp"
#include "diffmask/zoo/data/motif_graphs.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

using Numbers = std::vector<int64_t>;

at::Tensor edges_of(const Numbers& from, const Numbers& to) {
  return at::stack({at::tensor(from, at::kLong), at::tensor(to, at::kLong)});
}

// 0 <- 1 <- 2 <- 3, 1 -> 0 both ways, 4 apart but for 0 -> 4.
Graph path() {
  return {at::arange(10).view({5, 2}).to(at::kFloat), edges_of({1, 2, 3, 0, 0}, {0, 1, 2, 1, 4}),
          at::tensor(Numbers{0, 1, 0, 1, 2})};
}

bool is(const at::Tensor& tensor, const Numbers& values) {
  return tensor.flatten().equal(at::tensor(values, at::kLong));
}

TEST(GraphTest, KnowsDegreesAndReverses) {
  EXPECT_TRUE(is(path().degrees(), {1, 2, 1, 0, 1}));
  EXPECT_TRUE(is(path().reverses(), {3, -1, -1, 0, -1}));
}

TEST(GraphTest, ComputationGraphIsWhatReachesTheNode) {
  const auto expect = [](int64_t node, int64_t hops, const Numbers& nodes, const Numbers& edges) {
    const Neighbourhood found = computation_graph(path(), node, hops);
    EXPECT_EQ(found.nodes, nodes) << node << " within " << hops;
    EXPECT_EQ(found.edges, edges) << node << " within " << hops;
  };
  expect(0, 1, {0, 1}, {0});
  expect(0, 2, {0, 1, 2}, {0, 1, 3});
  expect(0, 3, {0, 1, 2, 3}, {0, 1, 2, 3});
  expect(0, 9, {0, 1, 2, 3}, {0, 1, 2, 3});
  expect(4, 2, {4, 0, 1}, {0, 4});
  expect(3, 2, {3}, {});
}

TEST(NodeDatasetTest, PadsNodesAndEdges) {
  const NodeDataset data(path(), {0, 4}, 2);
  EXPECT_EQ(data.length(0), 3);
  EXPECT_EQ(data.length(1), 2);
  EXPECT_TRUE(is(data.edges({0, 1}), {0, 1, 3, 0, 4, -1}));
  const Batch batch = data.batch({0, 1});
  batch.validate();
  EXPECT_TRUE(is(batch.mask.to(at::kLong), {1, 1, 1, 1, 1, 0}));
  EXPECT_TRUE(is(batch.labels, {0, 2}));
  EXPECT_TRUE(is(batch.inputs[0].select(2, 0).to(at::kLong), {0, 2, 4, 8, 0, 2}));
  // Of 0: 1 -> 0, 2 -> 1, 0 -> 1. Of 4, whose nodes are 4, 0, 1: 1 -> 0, 0 -> 4.
  EXPECT_TRUE(is(batch.inputs[1], {1, 2, 0, 0, 1, 1, 2, 1, 0, 1, 0, 0}));
  EXPECT_TRUE(batch.inputs[2].equal(batch.mask));
  EXPECT_TRUE(is(batch.inputs[3], {1, 2, 1, 1, 1, 2})) << "degrees of the whole graph";
  EXPECT_TRUE(is(batch.groups, {0, 1, 0, 0, 1, -1})) << "both directions share a gate";
  EXPECT_FALSE(NodeDataset(path(), {0}, 2, /*share=*/false).batch({0}).groups.defined());
}

TEST(WholeGraphTest, LabelsTheNodesOfASplit) {
  const WholeGraph data(path(), {1, 4});
  const Batch batch = data.batch({0});
  EXPECT_TRUE(is(batch.labels, {-100, 1, -100, -100, 2}));
  EXPECT_TRUE(batch.inputs[1][0].equal(path().edges));
  EXPECT_EQ(data.length(0), 5);
}

TEST(GraphTest, RefusesBadInput) {
  const auto with = [](const std::function<void(Graph&)>& change) {
    return [change] {
      Graph graph = path();
      change(graph);
      graph.validate();
    };
  };
  const auto edges = [&](const Numbers& from, const Numbers& to) {
    return with([=](Graph& graph) { graph.edges = edges_of(from, to); });
  };
  const NodeDataset data(path(), {0}, 2);
  expect_refused({
      {"no nodes", with([](Graph& graph) {
         graph.features = at::ones({0, 2});
       }),
       "graph.features has to be of shape"},
      {"no edges", edges({}, {}), "graph.edges has to be at least one, but got none"},
      {"undefined", with([](Graph& graph) { graph.edges = at::Tensor(); }),
       "graph.edges has to be of shape"},
      {"turned", with([](Graph& graph) { graph.edges = graph.edges.t(); }),
       "graph.edges has to be of shape (2, E), but got (5, 2)"},
      {"real", with([](Graph& graph) { graph.edges = graph.edges.to(at::kFloat); }),
       "graph.edges has to be"},
      {"elsewhere", with([](Graph& graph) { graph.edges = graph.edges.to(c10::kMeta); }),
       "graph.edges has to be on the CPU, but got meta"},
      {"too large", edges({0, 5}, {1, 0}),
       "graph.edges has to be between nodes 0..4, but got edge 1 from 5 to 0"},
      {"negative", edges({0}, {-1}), "but got edge 0 from 0 to -1"},
      {"self-loop", edges({0, 2}, {1, 2}),
       "graph.edges has to be between different nodes (networks add self-loops of their own), but "
       "got edge 1 from 2 to 2"},
      {"twice", edges({0, 1, 0}, {1, 0, 1}),
       "graph.edges has to be listed once each, but got edge 2 from 0 to 1"},
      {"NaN", with([](Graph& graph) { graph.features[0][0] = NAN; }), "graph.features has to be"},
      {"labels", with([](Graph& graph) { graph.labels = at::zeros({4}, at::kLong); }),
       "graph.labels has to be of shape (5)"},
      {"hops", [] { computation_graph(path(), 0, 0); }, "hops has to be >= 1, but got 0"},
      {"node", [] { computation_graph(path(), 5, 1); }, "nodes has to be in 0..4, but got 5"},
      {"lonely node",
       [] {
         NodeDataset(path(), {0, 3}, 2);
       },
       "nodes has to be reached by at least one edge each, but got 3"},
      {"no examples", [] { NodeDataset(path(), {}, 2); }, "nodes has to be at least one"},
      {"example", [&] { data.batch({1}); }, "examples has to be in 0..0, but got 1"},
      {"empty batch", [&] { data.batch({}); }, "examples has to be at least one"},
      {"split", [] { WholeGraph(path(), {9}); }, "nodes has to be in 0..4, but got 9"},
      {"no labels",
       [] {
         Graph graph = path();
         graph.labels = at::Tensor();
         WholeGraph(graph, {0});
       },
       "graph.labels has to be given"},
      {"second whole graph", [] { WholeGraph(path(), {0}).batch({1}); }, "the only one, but got 1"},
  });
}

Numbers counts(const at::Tensor& labels) {
  const at::Tensor found = at::bincount(labels);
  return {found.data_ptr<int64_t>(), found.data_ptr<int64_t>() + found.size(0)};
}

struct Expected {
  std::string name;
  Numbers classes;                // nodes of each
  int64_t edges, motifs;          // undirected edges; motifs
  int64_t motif_nodes, in_motif;  // of each motif: nodes, undirected edges
};

TEST(MotifGraphTest, HasTheSizesOfThePaper) {
  const std::vector<Expected> table = {
      // 5 edges for each of 295 new nodes; a house and its link; 0.1 * 700.
      {"ba-shapes", {300, 160, 160, 80}, 5 * 295 + 80 * 7 + 70, 80, 5, 6},
      {"ba-community",
       {300, 160, 160, 80, 300, 160, 160, 80},
       2 * (5 * 295 + 80 * 7 + 70) + 350,
       160,
       5,
       6},
      {"tree-cycles", {511, 480}, 510 + 80 * 7, 80, 6, 6},
      {"tree-grid", {511, 720}, 510 + 80 * 13, 80, 9, 12},
  };
  for (const Expected& expected : table) {
    SCOPED_TRACE(expected.name);
    const MotifGraph made = make_motif_graph(expected.name, make_generator(1));
    made.graph.validate();
    EXPECT_EQ(counts(made.graph.labels), expected.classes);
    EXPECT_EQ(made.classes(), static_cast<int64_t>(expected.classes.size()));
    EXPECT_EQ(made.graph.edges.size(1), 2 * expected.edges);
    EXPECT_TRUE(made.graph.reverses().ge(0).all().item<bool>()) << "undirected";
    EXPECT_EQ(counts(made.node_motif.index({made.node_motif.ge(0)})),
              Numbers(static_cast<size_t>(expected.motifs), expected.motif_nodes));
    EXPECT_EQ(counts(made.edge_motif.index({made.edge_motif.ge(0)})),
              Numbers(static_cast<size_t>(expected.motifs), 2 * expected.in_motif));
    // Both ends of a motif's edge are the motif's.
    const at::Tensor inside = made.edge_motif.ge(0);
    for (const int64_t end : {0, 1}) {
      const at::Tensor motif = made.node_motif.index_select(0, made.graph.edges[end]);
      EXPECT_TRUE(motif.index({inside}).equal(made.edge_motif.index({inside})));
    }
    EXPECT_TRUE(
        made.graph.edges.equal(make_motif_graph(expected.name, make_generator(1)).graph.edges));
    EXPECT_FALSE(
        made.graph.edges.equal(make_motif_graph(expected.name, make_generator(2)).graph.edges));
  }
}

TEST(MotifGraphTest, TruthIsTheNodesOwnMotif) {
  const MotifGraph made = make_ba_shapes(make_generator(1));
  const Numbers nodes = made.motif_nodes();
  EXPECT_EQ(nodes.size(), 400u);
  const NodeDataset data(made.graph, {nodes[0], nodes[4], 7}, 3);
  const at::Tensor truth = made.truth(data, {0, 1, 2});
  // All 6 edges lie within two hops of each of the first house's nodes, so all messages count.
  EXPECT_TRUE(is(truth.sum(1), {12, 12, 0}));
  EXPECT_FALSE(truth.logical_and(data.batch({0, 1, 2}).mask.logical_not()).any().item<bool>());
  const at::Tensor edges =
      data.edges({1}).squeeze(0).index({truth[1].narrow(0, 0, data.length(1))});
  EXPECT_TRUE(made.edge_motif.index({edges}).eq(0).all().item<bool>());
}

TEST(MotifGraphTest, GraphsSideBySideHaveNoEdgeBetween) {
  const MotifGraphOptions options{.base = 30, .motifs = 8, .graphs = 3};
  const MotifGraph made = make_ba_shapes(make_generator(1), options);
  made.graph.validate();
  EXPECT_EQ(counts(made.graph.labels), (Numbers{90, 48, 48, 24}));
  const at::Tensor graph = at::floor_divide(at::arange(3 * 70), 70);
  EXPECT_TRUE(
      graph.index_select(0, made.graph.edges[0]).equal(graph.index_select(0, made.graph.edges[1])));
  EXPECT_EQ(counts(graph.index_select(0, made.graph.edges[0])), Numbers(3, 2 * (125 + 56 + 7)));
  EXPECT_EQ(counts(made.node_motif.index({made.node_motif.ge(0)})), Numbers(24, 5));
}

TEST(MotifGraphTest, CommunitiesDifferInFeatures) {
  const MotifGraph made = make_ba_community(make_generator(1));
  const at::Tensor second = made.graph.labels.ge(4);
  const at::Tensor low = made.graph.features.index({second.logical_not()});
  const at::Tensor high = made.graph.features.index({second});
  // 7000 draws: three standard errors of the mean are 0.018.
  EXPECT_NEAR(low.mean().item<double>(), -1, 0.018);
  EXPECT_NEAR(high.mean().item<double>(), 1, 0.018);
  EXPECT_NEAR(high.std().item<double>(), 0.5, 0.013);
}

TEST(MotifGraphTest, RefusesBadInput) {
  const auto make = [](const MotifGraphOptions& options) {
    return [options] { make_ba_community(make_generator(1), options); };
  };
  expect_refused({
      {"name", [] { make_motif_graph("tree-cycle", make_generator(1)); }, "nearest: tree-cycles"},
      {"generator", [] { make_ba_shapes({}); }, "generator has to be given"},
      {"base", make({.base = 5}), "base has to be > 5, but got 5"},
      {"depth", make({.depth = 0}), "depth has to be in 1..20, but got 0"},
      {"motifs", make({.motifs = 0}), "motifs has to be >= 1, but got 0"},
      {"random", make({.random_edges = NAN}), "random_edges has to be in [0, 1]"},
      {"bridges", make({.bridges = -1}), "bridges has to be in 0.."},
      {"graphs", make({.graphs = 0}), "graphs has to be >= 1, but got 0"},
  });
}

}  // namespace
}  // namespace diffmask
