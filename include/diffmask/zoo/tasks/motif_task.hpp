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

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/mask/explainer_options.hpp"
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

/// How well an attribution finds the edges of the motifs of the nodes that it explains, all edges of
/// their computation graphs together; higher is better (metrics/ranking.hpp).
struct MotifScore {
  double auc = 0, average_precision = 0;
  double seconds = 0;  ///< that the method took
};

/// `data` are nodes of the task's graph, explained 32 at once; scored are a method's last site's.
MotifScore score_motifs(const MotifTask& task, const NodeDataset& data, const Attributor& method);

/// GraphMask's amortised masks on whole edges (Schlichtkrull et al. 2021): the
/// gates of "edge" are products of those that probes on the states of both ends and of the explained
/// node give, layer by layer; all edges look alike to a probe that reads only "edge". A masked edge
/// is no edge, since a state of 0 sends no message.
ExplainerOptions motif_explainer();

/// `data`: "ba-shapes", "ba-community", "tree-cycles" or "tree-grid". A GCN's normalisation tells a
/// node's degree without any edge, which is why the published net sums. By Adam, with 0.005 of the
/// parameters added to their gradients, which Adam then scales: more than AdamW's decay.
MotifTask train_motif_task(const std::string& data, const MotifTaskOptions& options = {});

}  // namespace diffmask
