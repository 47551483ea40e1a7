#include "diffmask/zoo/tasks/motif_task.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <chrono>
#include <utility>

#include "diffmask/core/random.hpp"
#include "diffmask/metrics/classification.hpp"
#include "diffmask/metrics/ranking.hpp"
#include "diffmask/probe/mlp.hpp"

namespace diffmask {

double MotifTask::accuracy(const std::vector<int64_t>& nodes) const {
  at::NoGradGuard no_grad;
  const Batch batch = WholeGraph(motifs.graph, nodes).batch({0});
  const at::Tensor index = at::tensor(nodes, at::kLong);
  return diffmask::accuracy(net->node_logits(batch.inputs)[0].argmax(1).index_select(0, index),
                            motifs.graph.labels.index_select(0, index));
}

std::vector<int64_t> MotifTask::in_motifs(const std::vector<int64_t>& nodes) const {
  std::vector<int64_t> result;
  for (const int64_t node : nodes) {
    if (motifs.node_motif[node].item<int64_t>() >= 0) result.push_back(node);
  }
  return result;
}

std::vector<int64_t> MotifTask::attached_nodes() const {
  // The makers of motif graphs number a motif's nodes in a row, that one first.
  std::vector<int64_t> nodes = motifs.motif_nodes();
  const at::Tensor& motif = motifs.node_motif;
  std::erase_if(
      nodes, [&](int64_t v) { return motif[v].item<int64_t>() == motif[v - 1].item<int64_t>(); });
  return nodes;
}

MotifScore score_motifs(const MotifTask& task, const NodeDataset& data, const Attributor& method) {
  const auto began = std::chrono::steady_clock::now();
  std::vector<at::Tensor> all_scores, all_truth;
  for (const auto& examples : length_batches(data, 32)) {
    const Batch batch = data.batch(examples);
    const at::Tensor found = method.attribute(batch).scores;
    all_scores.push_back(found.select(2, found.size(2) - 1).index({batch.mask}));
    all_truth.push_back(task.motifs.truth(data, examples).index({batch.mask}));
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
  const at::Tensor scores = at::cat(all_scores), truth = at::cat(all_truth);
  return {roc_auc(scores, truth), average_precision(scores, truth), seconds.count()};
}

ExplainerOptions motif_explainer() {
  return {.masking = Masking::input,
          .sites = {"edge", "ends.1", "ends.2"},
          .probe = mlp_probe({.hidden_size = 32}),
          .baseline = {.start = BaselineOptions::Start::zero, .learned = false}};
}

MotifTask train_motif_task(const std::string& data, const MotifTaskOptions& options) {
  const at::Generator generator = make_generator(derive_seed(options.seed, 100));
  MotifTask task{make_motif_graph(data, generator), {}, {}, {}, nullptr, {}};
  const Graph& graph = task.motifs.graph;
  const std::vector<int64_t> order = shuffled(graph.nodes(), generator);
  const auto tenth = graph.nodes() / 10;
  task.training = {order.begin(), order.end() - 2 * tenth};
  task.validation = {order.end() - 2 * tenth, order.end() - tenth};
  task.test = {order.end() - tenth, order.end()};
  const auto net = std::make_shared<GraphNet>(GraphNetOptions{.kind = options.net,
                                                              .features = graph.features.size(1),
                                                              .classes = task.motifs.classes()},
                                              generator);
  const SupervisedLoss loss = [&net](const at::Tensor& logits, const at::Tensor& labels) {
    at::Tensor squares = at::zeros({});
    for (const at::Tensor& parameter : net->parameters()) {
      squares = squares + parameter.square().sum();
    }
    return at::cross_entropy_loss(logits.flatten(0, 1), labels.flatten()) + 0.0025 * squares;
  };
  task.summary = train_supervised(
      *net, [&net](const Inputs& x) { return net->node_logits(x); }, loss,
      WholeGraph(graph, task.training), WholeGraph(graph, task.validation),
      {.epochs = options.epochs, .rate = 1e-3, .final_rate = 1.0, .seed = options.seed},
      options.callbacks);
  task.net = net;
  return task;
}

}  // namespace diffmask
