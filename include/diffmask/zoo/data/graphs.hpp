#pragma once
/// \file
/// Graphs, and the neighbourhoods that a node's prediction is made of.
///
/// A network of L layers of messages knows of a node v what lies within L hops: the messages that
/// reach it run along edges (s, t) from whose t some path of at most L - 1 edges leads to v. These
/// edges are v's computation graph (Ying et al. 2019, section 3.1), and they are its positions.

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

  /// The number of each edge's reverse, -1 where there is none. Shape: (E) int64.
  at::Tensor reverses() const;

  /// Throws ArgumentError for a graph without nodes or edges, ends that are no node's number,
  /// self-loops (networks add their own), an edge that comes twice, features that are not finite,
  /// or tensors that disagree in shape or dtype.
  void validate() const;
};

/// A node's computation graph.
struct Neighbourhood {
  std::vector<int64_t> nodes;  ///< numbers in the graph; the node itself first, nearest first
  std::vector<int64_t> edges;  ///< numbers in the graph, in rising order
};

/// Of a network of `hops` layers, >= 1. ArgumentError for a node that is not the graph's.
Neighbourhood computation_graph(const Graph& graph, int64_t node, int64_t hops);

/// Nodes as examples, each in its own computation graph, whose edges are the positions.
///
/// Inputs, for a batch of B examples of at most N nodes and P edges, the node itself being number
/// 0:
///
///     features (B, N, F);   edges (B, 2, P) int64, numbers of the batch's nodes
///     mask (B, P) bool;     degrees (B, N) int64, of the whole graph
///
/// so that a network's output is what it is on the whole graph. Padding is 0.
class NodeDataset : public Dataset {
 public:
  /// The examples are `nodes`, in this order. With `share`, the two directions of an edge share a
  /// gate (Batch::groups). ArgumentError for a graph that is not valid, for no nodes, and for a
  /// node that no edge leads to: nothing of it could be explained.
  NodeDataset(Graph graph, std::vector<int64_t> nodes, int64_t hops, bool share = true);

  int64_t size() const override { return static_cast<int64_t>(nodes_.size()); }
  int64_t length(int64_t example) const override;
  Batch batch(const std::vector<int64_t>& examples) const override;

  /// The number in the graph of each of the batch's edges, -1 for padding. Shape: (B, P).
  at::Tensor edges(const std::vector<int64_t>& examples) const;

  const Graph& graph() const { return graph_; }
  /// The examples' numbers in the graph.
  const std::vector<int64_t>& nodes() const { return nodes_; }

 private:
  const Neighbourhood& neighbourhood(int64_t example) const;

  Graph graph_;
  std::vector<int64_t> nodes_;
  std::vector<int64_t> pairs_;  // a number an edge; that of its reverse is the same
  std::vector<Neighbourhood> neighbourhoods_;
  bool share_;
};

/// The whole graph as its data set's one example, with the inputs of NodeDataset: to train on all
/// nodes at once. Labels (1, N) are -100 but at `nodes`, which torch's cross entropy leaves out.
class WholeGraph : public Dataset {
 public:
  /// ArgumentError for a graph that is not valid or has no labels, or nodes that are not its own.
  WholeGraph(Graph graph, const std::vector<int64_t>& nodes);

  int64_t size() const override { return 1; }
  int64_t length(int64_t /*example*/) const override { return graph_.edges.size(1); }
  Batch batch(const std::vector<int64_t>& examples) const override;

 private:
  Graph graph_;
};

}  // namespace diffmask
