#pragma once
/// \file
/// The graphs of Ying et al. 2019 ("GNNExplainer", section 5 and table 1), whose true explanations
/// are known: each motif is attached by an edge to a random node of a base graph, and a node's
/// class is its place in its motif. So the edges of its motif explain it.
///
///     BA-Shapes     Barabasi-Albert base of 300 nodes, 5 edges a new node; 80 houses (5 nodes,
///                   6 edges); 0.1 N random edges. Classes: base, middle, bottom, top of a house
///     BA-Community  two of them with 350 edges between; features N(-1, 0.5^2) in one and
///                   N(1, 0.5^2) in the other. Classes: those of each, 8
///     Tree-Cycles   binary tree of depth 8 (511 nodes); 80 rings of 6. Classes: tree, ring
///     Tree-Grid     the same tree; 80 grids of 3 x 3. Classes: tree, grid
///
/// All edges go both ways; features are 10 ones except in BA-Community.
///
///     const MotifGraph made = make_ba_shapes(make_generator(seed));
///     const NodeDataset data(made.graph, made.motif_nodes(), /*hops=*/3);
///     const at::Tensor truth = made.truth(data, iota(data.size()));

#include <ATen/core/Generator.h>

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/zoo/data/graphs.hpp"

namespace diffmask {

/// A graph and its true explanations.
struct MotifGraph {
  Graph graph;
  at::Tensor edge_motif;  ///< (E) int64: the motif that an edge belongs to, -1 for none
  at::Tensor node_motif;  ///< (N) int64: the motif that a node belongs to, -1 for none

  int64_t classes() const;

  /// The nodes that belong to a motif.
  std::vector<int64_t> motif_nodes() const;

  /// Which edges belong to the motif of their row's node. Shape: (B, P) bool; false at padding.
  at::Tensor truth(const NodeDataset& data, const std::vector<int64_t>& examples) const;
};

struct MotifGraphOptions {
  int64_t base = 300;         ///< nodes of a Barabasi-Albert base, > 5
  int64_t depth = 8;          ///< of a tree, in 1..20
  int64_t motifs = 80;        ///< motifs attached to each base, >= 1
  double random_edges = 0.1;  ///< number of random edges in BA graphs, as a share of N, in [0, 1]
  int64_t bridges = 350;      ///< edges between the communities, >= 0
  int64_t graphs = 1;         ///< number of BA-Shapes side by side, without edges between, >= 1

  void validate() const;
};

MotifGraph make_ba_shapes(at::Generator generator, const MotifGraphOptions& options = {});
MotifGraph make_ba_community(at::Generator generator, const MotifGraphOptions& options = {});
MotifGraph make_tree_cycles(at::Generator generator, const MotifGraphOptions& options = {});
MotifGraph make_tree_grid(at::Generator generator, const MotifGraphOptions& options = {});

/// By name: "ba-shapes", "ba-community", "tree-cycles" or "tree-grid"; ArgumentError for another.
MotifGraph make_motif_graph(const std::string& name, at::Generator generator,
                            const MotifGraphOptions& options = {});

}  // namespace diffmask
