#pragma once
/// \file
/// Graphs, and the neighbourhoods that a node's prediction depends on.
///
/// With L layers of messages, node v sees what lies within L hops: a message reaches it along edge
/// (s, t) if a path of at most L - 1 edges leads from t to v. These edges are v's computation graph
/// (Ying et al. 2019, section 3.1). They are the positions to be explained.
///
///     const Graph graph{features, edges, labels};
///     const NodeDataset data(graph, {3, 17}, /*hops=*/3);   // two nodes as examples
///     const Batch batch = data.batch({0, 1});

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/data/dataset.hpp"

namespace diffmask {

/// A directed graph of N nodes and E edges; an undirected one has each edge in both directions.
struct Graph {
  at::Tensor features;     ///< (N, F) floating point
  at::Tensor edges;        ///< (2, E) int64: sources, targets
  at::Tensor labels = {};  ///< (N) int64, optional: the nodes' classes

  int64_t nodes() const { return features.size(0); }

  /// Number of edges into each node. Shape: (N) int64.
  at::Tensor degrees() const;

  /// The index of each edge's reverse, -1 if there is none. Shape: (E) int64.
  at::Tensor reverses() const;

  /// Throws ArgumentError for a graph without nodes or edges, an end that is not a node, a
  /// self-loop (networks add their own), an edge that comes twice, features that are not finite,
  /// edges that are not on the CPU, or tensors that disagree in shape or dtype.
  void validate() const;
};

/// A node's computation graph.
struct Neighbourhood {
  std::vector<int64_t>
      nodes;  ///< indices in the graph, nearest first: the node itself is the first
  std::vector<int64_t> edges;  ///< indices in the graph, ascending
};

/// Of a network with `hops` >= 1 layers. ArgumentError for a node that is not in the graph.
Neighbourhood computation_graph(const Graph& graph, int64_t node, int64_t hops);

/// Nodes as examples, each in its own computation graph, whose edges are the positions.
///
/// Inputs for a batch of B examples with at most N nodes and P edges; the node itself is node 0 of
/// its row:
///
///     features (B, N, F);   edges (B, 2, P) int64, indices of the row's nodes
///     mask (B, P) bool;     degrees (B, N) int64, in the whole graph
///
/// With these a network's output is the same as on the whole graph. Padding is 0.
class NodeDataset : public Dataset {
 public:
  /// The examples are `nodes`, in this order. With `share`, the two directions of an edge share a
  /// gate (Batch::groups). ArgumentError if the graph is not valid, if there are no nodes, and for
  /// a node that no edge leads to, as it has nothing to explain.
  NodeDataset(Graph graph, std::vector<int64_t> nodes, int64_t hops, bool share = true);

  int64_t size() const override { return static_cast<int64_t>(nodes_.size()); }
  int64_t length(int64_t example) const override;
  Batch batch(const std::vector<int64_t>& examples) const override;

  /// The index in the graph of each edge of the batch, -1 for padding. Shape: (B, P).
  at::Tensor edges(const std::vector<int64_t>& examples) const;

  const Graph& graph() const { return graph_; }
  /// The examples' indices in the graph.
  const std::vector<int64_t>& nodes() const { return nodes_; }

 private:
  const Neighbourhood& neighbourhood(int64_t example) const;

  Graph graph_;
  std::vector<int64_t> nodes_;
  std::vector<int64_t> pairs_;  // for each edge a number that it shares with its reverse
  std::vector<Neighbourhood> neighbourhoods_;
  bool share_;
};

/// The whole graph as a single example with the inputs of NodeDataset, to train on all nodes at
/// once. Labels (1, N) are -100 except at `nodes`; LibTorch's cross entropy ignores -100.
class WholeGraph : public Dataset {
 public:
  /// ArgumentError if the graph is not valid or has no labels, and for a node that is not in it.
  WholeGraph(Graph graph, const std::vector<int64_t>& nodes);

  int64_t size() const override { return 1; }
  int64_t length(int64_t /*example*/) const override { return graph_.edges.size(1); }
  Batch batch(const std::vector<int64_t>& examples) const override;

 private:
  Graph graph_;
};

}  // namespace diffmask
