#include <ATen/ATen.h>
#include <fmt/format.h>

#include "diffmask/zoo/data/motif_graphs.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

constexpr int64_t kNewEdges = 5;  // of a Barabasi-Albert graph's new node

/// A motif: edges between its nodes 0, 1, ..., and the nodes' classes. Node 0 is attached to the
/// base.
struct Motif {
  std::vector<std::pair<int64_t, int64_t>> edges;
  std::vector<int64_t> classes;
};

// Nodes 0 and 1 in the middle, 2 and 3 at the bottom, 4 on top.
Motif house() { return {{{0, 1}, {1, 2}, {2, 3}, {3, 0}, {4, 0}, {4, 1}}, {1, 1, 2, 2, 3}}; }

Motif ring() {
  return {{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 0}}, std::vector<int64_t>(6, 1)};
}

Motif grid() {
  Motif motif{{}, std::vector<int64_t>(9, 1)};
  for (int64_t node = 0; node < 9; ++node) {
    if (node % 3 < 2) motif.edges.emplace_back(node, node + 1);
    if (node < 6) motif.edges.emplace_back(node, node + 3);
  }
  return motif;
}

class Builder {
 public:
  explicit Builder(at::Generator generator) : generator_(std::move(generator)) {
    require(generator_.defined(), "generator", "given", "none");
  }

  int64_t nodes() const { return static_cast<int64_t>(labels_.size()); }
  int64_t draw(int64_t begin, int64_t end) {
    return at::randint(begin, end, {1}, generator_, at::TensorOptions(at::kLong)).item<int64_t>();
  }

  int64_t add_node(int64_t label, int64_t motif = -1) {
    labels_.push_back(label);
    node_motif_.push_back(motif);
    return nodes() - 1;
  }

  // Adds both directions; false if the edge exists already or would be a self-loop.
  bool add_edge(int64_t a, int64_t b, int64_t motif = -1) {
    if (a == b || !known_.emplace(std::min(a, b), std::max(a, b)).second) return false;
    for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
      from_.push_back(from);
      to_.push_back(to);
      edge_motif_.push_back(motif);
    }
    return true;
  }

  // Joins each new node to others with probabilities proportional to their degrees (Barabasi and
  // Albert 1999).
  void add_barabasi_albert(int64_t size, int64_t label) {
    const int64_t first = nodes();
    std::vector<int64_t> ends;  // each node once for every edge it has
    for (int64_t i = 0; i < size; ++i) {
      const int64_t node = add_node(label);
      if (i < kNewEdges) continue;
      std::set<int64_t> chosen;
      while (static_cast<int64_t>(chosen.size()) < kNewEdges) {
        // The first new node is joined to the initial ones, which have no edges yet.
        chosen.insert(i == kNewEdges
                          ? first + static_cast<int64_t>(chosen.size())
                          : ends[static_cast<size_t>(draw(0, static_cast<int64_t>(ends.size())))]);
      }
      for (const int64_t other : chosen) {
        add_edge(node, other);
        ends.insert(ends.end(), {node, other});
      }
    }
  }

  void add_tree(int64_t depth) {
    add_node(0);
    for (int64_t i = 1; i < (int64_t{2} << depth) - 1; ++i) add_edge(add_node(0), (i - 1) / 2);
  }

  // Adds motifs, each attached to a random one of the nodes begin .. end - 1.
  void add_motifs(const Motif& motif, int64_t count, int64_t begin, int64_t end, int64_t label) {
    for (int64_t i = 0; i < count; ++i, ++motifs_) {
      const int64_t first = nodes();
      for (const int64_t place : motif.classes) add_node(label + place, motifs_);
      for (const auto& [a, b] : motif.edges) add_edge(first + a, first + b, motifs_);
      add_edge(first, draw(begin, end));
    }
  }

  // Adds `count` new edges from one range of nodes to another.
  void add_random_edges(int64_t count, std::pair<int64_t, int64_t> from,
                        std::pair<int64_t, int64_t> to) {
    while (count > 0) {
      count -= add_edge(draw(from.first, from.second), draw(to.first, to.second)) ? 1 : 0;
    }
  }

  void add_ba_shapes(const MotifGraphOptions& options, int64_t label) {
    const int64_t first = nodes();
    add_barabasi_albert(options.base, label);
    add_motifs(house(), options.motifs, first, nodes(), label);
    const auto size = static_cast<double>(nodes() - first);
    add_random_edges(std::llround(options.random_edges * size), {first, nodes()}, {first, nodes()});
  }

  MotifGraph build() const {
    const auto tensor = [](const std::vector<int64_t>& x) { return at::tensor(x, at::kLong); };
    return {{at::ones({nodes(), 10}), at::stack({tensor(from_), tensor(to_)}), tensor(labels_)},
            tensor(edge_motif_),
            tensor(node_motif_)};
  }

 private:
  at::Generator generator_;
  std::vector<int64_t> labels_, node_motif_, from_, to_, edge_motif_;
  std::set<std::pair<int64_t, int64_t>> known_;
  int64_t motifs_ = 0;
};

MotifGraph tree_with(const Motif& motif, at::Generator generator,
                     const MotifGraphOptions& options) {
  options.validate();
  Builder builder(std::move(generator));
  builder.add_tree(options.depth);
  builder.add_motifs(motif, options.motifs, 0, builder.nodes(), 0);
  return builder.build();
}

}  // namespace

int64_t MotifGraph::classes() const { return graph.labels.max().item<int64_t>() + 1; }

std::vector<int64_t> MotifGraph::motif_nodes() const {
  const at::Tensor nodes = node_motif.ge(0).nonzero().squeeze(1).contiguous();
  return {nodes.data_ptr<int64_t>(), nodes.data_ptr<int64_t>() + nodes.size(0)};
}

at::Tensor MotifGraph::truth(const NodeDataset& data, const std::vector<int64_t>& examples) const {
  const at::Tensor edges = data.edges(examples);
  std::vector<int64_t> nodes;
  for (const int64_t example : examples) nodes.push_back(data.nodes().at(example));
  const at::Tensor motif = node_motif.index_select(0, at::tensor(nodes, at::kLong)).unsqueeze(1);
  return edge_motif.index({edges.clamp_min(0)})
      .eq(motif)
      .logical_and(motif.ge(0))
      .logical_and(edges.ge(0));
}

void MotifGraphOptions::validate() const {
  require(base > kNewEdges, "base", fmt::format("> {}", kNewEdges), base);
  require(depth >= 1 && depth <= 20, "depth", "in 1..20", depth);
  require(motifs >= 1, "motifs", ">= 1", motifs);
  // More edges would not fit between few nodes.
  require(random_edges >= 0 && random_edges <= 1, "random_edges", "in [0, 1]", random_edges);
  const int64_t size = base + 5 * motifs;
  require(bridges >= 0 && bridges <= size * size / 2, "bridges",
          fmt::format("in 0..{}", size * size / 2), bridges);
  require(graphs >= 1, "graphs", ">= 1", graphs);
}

MotifGraph make_ba_shapes(at::Generator generator, const MotifGraphOptions& options) {
  options.validate();
  Builder builder(std::move(generator));
  for (int64_t i = 0; i < options.graphs; ++i) builder.add_ba_shapes(options, 0);
  return builder.build();
}

MotifGraph make_ba_community(at::Generator generator, const MotifGraphOptions& options) {
  options.validate();
  Builder builder(generator);
  builder.add_ba_shapes(options, 0);
  const int64_t half = builder.nodes();
  builder.add_ba_shapes(options, 4);
  builder.add_random_edges(options.bridges, {0, half}, {half, 2 * half});
  MotifGraph result = builder.build();
  const at::Tensor sign = at::arange(2 * half).ge(half).to(at::kFloat).mul(2).sub(1).unsqueeze(1);
  result.graph.features = sign + 0.5 * at::randn({2 * half, 10}, generator);
  return result;
}

MotifGraph make_tree_cycles(at::Generator generator, const MotifGraphOptions& options) {
  return tree_with(ring(), std::move(generator), options);
}

MotifGraph make_tree_grid(at::Generator generator, const MotifGraphOptions& options) {
  return tree_with(grid(), std::move(generator), options);
}

MotifGraph make_motif_graph(const std::string& name, at::Generator generator,
                            const MotifGraphOptions& options) {
  using Make = MotifGraph (*)(at::Generator, const MotifGraphOptions&);
  static const std::map<std::string, Make> makers = {{"ba-shapes", make_ba_shapes},
                                                     {"ba-community", make_ba_community},
                                                     {"tree-cycles", make_tree_cycles},
                                                     {"tree-grid", make_tree_grid}};
  const auto found = makers.find(name);
  if (found == makers.end()) {
    std::vector<std::string> names;
    for (const auto& maker : makers) names.push_back(maker.first);
    throw ArgumentError("name", "a graph's", with_nearest(name, names));
  }
  return found->second(std::move(generator), options);
}

}  // namespace diffmask
