#include "diffmask/zoo/tasks/task_model.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>

#include "diffmask/core/random.hpp"
#include "diffmask/zoo/data/graphs.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "diffmask/zoo/nets/counting_net.hpp"
#include "diffmask/zoo/nets/graph_net.hpp"
#include "diffmask/zoo/nets/init.hpp"
#include "diffmask/zoo/tasks/counting_fit.hpp"
#include "diffmask/zoo/tasks/motif_task.hpp"

namespace diffmask {
namespace {

constexpr int64_t kFresh = 1000;  // examples to validate on, and as many to measure accuracy on

// Streams of the seed.
enum TaskStream : uint64_t { kData = 100, kWeights, kBlanks };

double accuracy_on(const Dataset& data, const torch::nn::Module& net,
                   const ModuleForward& forward) {
  const at::Tensor output = predict(net, forward, data);
  const at::Tensor labels = data.batch(iota(data.size())).labels.to(output.device());
  const at::Tensor predicted = output.dim() == 1 ? output.gt(0).to(at::kLong) : output.argmax(1);
  return predicted.eq(labels).to(at::kDouble).mean().item<double>();
}

// Trains the net on fresh data of the task; fills in `training` and `accuracy`.
TaskModel trained(const Task& task, const std::shared_ptr<torch::nn::Module>& net,
                  const ModuleForward& forward, const SupervisedLoss& loss, int64_t examples,
                  const SupervisedOptions& options, const std::vector<Callback>& callbacks) {
  const at::Generator generator = make_generator(derive_seed(options.seed, kData));
  const TaskData training = task.make(examples, generator),
                 validation = task.make(kFresh, generator), fresh = task.make(kFresh, generator);
  TaskModel result;
  result.training =
      train_supervised(*net, forward, loss, *training.data, *validation.data, options, callbacks);
  result.accuracy = accuracy_on(*fresh.data, *net, forward);
  return result;
}

TaskModel counting_model(const Task& task, uint64_t seed, const std::vector<Callback>& callbacks) {
  const auto net = std::make_shared<CountingNet>(make_generator(derive_seed(seed, kWeights)));
  // Weight decay decides whether there is anything to find: docs/results.md, "Single choices of the
  // recipes".
  const SupervisedOptions options{.epochs = 15,
                                  .batch_size = 64,
                                  .rate = 5e-3,
                                  .final_rate = 0.02,
                                  .weight_decay = 0.1,
                                  .seed = seed};
  TaskModel result = trained(task, net, forward_of(net), counting_loss, 9000, options, callbacks);
  at::NoGradGuard no_grad;
  result.model = staged(net);
  result.site = "embedding";
  result.blank = net->embed(at::arange(task.vocabulary)).mean(0);
  result.target = target::scalar;
  result.divergence = divergence::bernoulli;
  return result;
}

// Large steps leave the palindrome at chance; with small ones two_hop's pointers take long to
// learn.
struct Pace {
  int64_t epochs;
  double rate;
};

Pace pace_of(const std::string& task) {
  if (task == "two_hop") return {6, 4e-3};
  if (task == "palindrome") return {6, 1e-3};
  return {3, 2e-3};
}

// Half of the rows get blanks at a share of their positions that is drawn for each row.
at::Tensor with_blanks(const at::Tensor& tokens, const at::Generator& generator) {
  const at::TensorOptions there(generator.device());
  const at::Tensor share = (2 * at::rand({tokens.size(0), 1}, generator, there) - 1).clamp_min(0);
  const at::Tensor blank = at::rand(tokens.sizes(), generator, there).lt(share);
  return tokens.masked_fill(blank.to(tokens.device()), 0);
}

TaskModel encoder_model(const Task& task, uint64_t seed, const std::vector<Callback>& callbacks) {
  const at::Generator generator = make_generator(derive_seed(seed, kWeights)),
                      blanks = make_generator(derive_seed(seed, kBlanks));
  const BertConfig config{.vocabulary = task.vocabulary,
                          .hidden_size = 64,
                          .layers = 2,
                          .heads = 4,
                          .intermediate_size = 128,
                          .positions = task.make(1, make_generator(0)).truth.size(1),
                          .types = 0,
                          .dropout = 0,
                          .attention_dropout = 0,
                          .head_dropout = 0};
  const auto net = std::make_shared<Bert>(config, BertHead{.classes = task.classes}, generator);
  initialise(*net, generator);  // N(0, 0.02) is for wide nets; it would cost thousands of steps
  const ModuleForward forward = [&](const Inputs& x) {
    return net->forward({net->is_training() ? with_blanks(x[0], blanks) : x[0], x[1]});
  };
  const SupervisedLoss loss = [](const at::Tensor& logits, const at::Tensor& labels) {
    return at::cross_entropy_loss(logits, labels);
  };
  const auto [epochs, rate] = pace_of(task.name);
  const SupervisedOptions options{.epochs = epochs,
                                  .batch_size = 64,
                                  .rate = rate,
                                  .final_rate = 0.02,
                                  .warm_up = 0.1,
                                  .weight_decay = 0.01,
                                  .seed = seed};
  TaskModel result = trained(task, net, forward, loss, 9000, options, callbacks);
  at::NoGradGuard no_grad;
  result.model = staged(net);
  result.site = "word_embeddings";
  result.blank = net->embed_words(at::zeros({1, 1}, at::kLong)).view(-1).clone();
  result.target = target::predicted;
  result.divergence = divergence::categorical;
  return result;
}

// The graphs that `size` examples are nodes of, with the labels of all nodes.
WholeGraph whole_graphs(const Task& task, int64_t size, const at::Generator& generator) {
  const TaskData drawn = task.make(size, generator);
  const Graph& graph = dynamic_cast<const NodeDataset&>(*drawn.data).graph();
  return {graph, iota(graph.nodes())};
}

TaskModel graph_model(const Task& task, uint64_t seed, const std::vector<Callback>& callbacks) {
  const at::Generator generator = make_generator(derive_seed(seed, kData));
  // One graph for every 70 nodes: many graphs, so that the net generalises to others.
  const WholeGraph training = whole_graphs(task, 2000, generator),
                   validation = whole_graphs(task, kFresh, generator);
  const TaskData fresh = task.make(kFresh, generator);
  const Inputs example = fresh.data->batch({0}).inputs;
  const auto net = std::make_shared<GraphNet>(GraphNetOptions{.kind = GraphNetOptions::Kind::sum,
                                                              .features = example[0].size(2),
                                                              .classes = task.classes},
                                              make_generator(derive_seed(seed, kWeights)));
  const SupervisedLoss loss = [](const at::Tensor& logits, const at::Tensor& labels) {
    return at::cross_entropy_loss(logits.flatten(0, 1), labels.flatten());
  };
  TaskModel result;
  result.training = train_supervised(
      *net, [&](const Inputs& x) { return net->node_logits(x); }, loss, training, validation,
      {.epochs = 400, .rate = 2e-2, .final_rate = 0.02, .seed = seed}, callbacks);
  result.accuracy = accuracy_on(*fresh.data, *net,
                                [&](const Inputs& x) { return net->node_logits(x).select(1, 0); });
  result.model = tapped(net, example);
  result.site = "edge";
  result.blank = at::zeros({1});
  result.target = target::predicted;
  result.divergence = divergence::categorical;
  result.explainer.sites = motif_explainer().sites;
  result.explainer.baseline = motif_explainer().baseline;
  return result;
}

}  // namespace

TaskModel train_task_model(const Task& task, uint64_t seed,
                           const std::vector<Callback>& callbacks) {
  if (task.name == "counting") return counting_model(task, seed, callbacks);
  if (task.name == "ba_shapes") return graph_model(task, seed, callbacks);
  return encoder_model(diffmask::task(task.name), seed, callbacks);
}

}  // namespace diffmask
