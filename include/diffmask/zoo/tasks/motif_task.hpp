#pragma once
/// \file
/// A graph with motifs (zoo/data/motif_graphs.hpp) and the net that classes its nodes, trained as
/// GNNExplainer was published (Ying et al. 2019): what masks over edges are scored on.
///
///     const MotifTask task = train_motif_task("ba-shapes", {.seed = 0});
///     const NodeDataset data(task.motifs.graph, task.motifs.motif_nodes(), /*hops=*/3);
///     const auto model = tapped(task.net, data.batch({0}).inputs);

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/zoo/data/motif_graphs.hpp"
#include "diffmask/zoo/nets/graph_net.hpp"
#include "diffmask/zoo/nets/supervised.hpp"

namespace diffmask {

struct MotifTaskOptions {
  GraphNetOptions::Kind net = GraphNetOptions::Kind::sum;  ///< the published net
  int64_t epochs = 1000;                                   ///< >= 1, of the whole graph each
  uint64_t seed = 0;                                       ///< of graph, split and first weights
  std::vector<Callback> callbacks = {};
};

struct MotifTask {
  MotifGraph motifs;
  std::vector<int64_t> training, validation, test;  ///< nodes, 8 : 1 : 1
  std::shared_ptr<GraphNet> net;
  SupervisedSummary summary;

  /// The share of these nodes whose class is predicted.
  double accuracy(const std::vector<int64_t>& nodes) const;

  /// Those of these nodes that belong to a motif.
  std::vector<int64_t> in_motifs(const std::vector<int64_t>& nodes) const;

  /// The node of each motif that joins it to the base.
  std::vector<int64_t> attached_nodes() const;
};

/// `data`: "ba-shapes", "ba-community", "tree-cycles" or "tree-grid". A GCN's normalisation tells a
/// node's degree without any edge, which is why the published net sums. By Adam, with 0.005 of the
/// parameters added to their gradients, which Adam then scales: more than AdamW's decay.
MotifTask train_motif_task(const std::string& data, const MotifTaskOptions& options = {});

}  // namespace diffmask
