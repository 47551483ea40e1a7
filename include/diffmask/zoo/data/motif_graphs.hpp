#pragma once
/// \file
/// The graphs of Ying et al. 2019 ("GNNExplainer", section 5 and table 1): motifs are attached,
/// each by an edge, to random nodes of a base graph, and nodes are classed by their place in them.
/// What a node in a motif is classed by are its motif's edges.
///
///     BA-Shapes     Barabasi-Albert base of 300 nodes, 5 edges a new node; 80 houses (5 nodes,
///                   6 edges); 0.1 N random edges. Classes: base, middle, bottom, top of a house
///     BA-Community  two of them with 350 edges between; features N(-1, 0.5^2) in one and
///                   N(1, 0.5^2) in the other. Classes: those of each, 8
///     Tree-Cycles   binary tree of depth 8 (511 nodes); 80 rings of 6. Classes: tree, ring
///     Tree-Grid     the same tree; 80 grids of 3 x 3. Classes: tree, grid
///
/// Edges go both ways; where nothing else is said features are 10 ones.

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
  at::Tensor node_motif;  ///< (N) int64: likewise of nodes

  int64_t classes() const;

  /// The nodes that are in a motif.
  std::vector<int64_t> motif_nodes() const;

  /// Which edges of a batch belong to its node's motif. Shape: (B, P) bool; false at padding.
  at::Tensor truth(const NodeDataset& data, const std::vector<int64_t>& examples) const;
};

struct MotifGraphOptions {
  int64_t base = 300;         ///< nodes of a Barabasi-Albert base, > 5
  int64_t depth = 8;          ///< of a tree, >= 1
  int64_t motifs = 80;        ///< of each base, >= 1
  double random_edges = 0.1;  ///< times N, beside a Barabasi-Albert base, >= 0
  int64_t bridges = 350;      ///< edges between communities, >= 0
  int64_t graphs = 1;         ///< of BA-Shapes: as many side by side, with no edge between, >= 1

  void validate() const;
};

MotifGraph make_ba_shapes(at::Generator generator, const MotifGraphOptions& options = {});
MotifGraph make_ba_community(at::Generator generator, const MotifGraphOptions& options = {});
MotifGraph make_tree_cycles(at::Generator generator, const MotifGraphOptions& options = {});
MotifGraph make_tree_grid(at::Generator generator, const MotifGraphOptions& options = {});

/// By name: "ba-shapes", "ba-community", "tree-cycles", "tree-grid"; else ArgumentError.
MotifGraph make_motif_graph(const std::string& name, at::Generator generator,
                            const MotifGraphOptions& options = {});

}  // namespace diffmask
