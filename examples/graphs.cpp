// The graphs of GNNExplainer (Ying et al. 2019, section 5): motifs hung on a base graph, and nodes
// classed by their place in them. What a motif's node is classed by is known - the edges of its
// motif - so that masks over edges can be scored.
//
//   ./examples/run graphs                          BA-Shapes, 1 seed
//   ./examples/run graphs --data tree-cycles --seeds 3
//
// Trains the published net of 3 layers, explains nodes in motifs, and prints, for each method,
// ROC-AUC and average precision of the edges of all their computation graphs together (higher is
// better; an AUC of 0.5 says nothing). Expect GNNExplainer and DiffMask well above gradients. The
// paper's GNNExplainer has an AUC of 0.925 on BA-Shapes, 0.836 on BA-Community, 0.948 on
// Tree-Cycles and 0.875 on Tree-Grid; its public implementation explains what --attached does.
#include <map>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/learned/gnn_explainer.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/zoo/tasks/motif_task.hpp"
#include "program.hpp"

namespace dm = diffmask;
using nlohmann::json;

namespace {

using Kind = dm::GraphNetOptions::Kind;
const std::map<std::string, Kind> kKinds = {
    {"sum", Kind::sum}, {"gin", Kind::gin}, {"gcn", Kind::gcn}};

struct Settings {
  std::string data = "ba-shapes", net = "sum", json_file;
  uint64_t seeds = 1;
  int64_t explained = 0, epochs = 1000, steps = 300, threads = 1;
  double epsilon = 0.1;
  bool attached = false, smoke = false;
};

// Prints and keeps how well each method finds the edges of the nodes' motifs.
class Scores {
 public:
  Scores(const dm::MotifTask& task, const Settings& settings, uint64_t seed)
      : seed_(seed), task_(task), data_(task.motifs.graph, chosen(task, settings, seed), 3) {}

  const dm::NodeDataset& data() const { return data_; }

  void add(const std::string& name, const dm::Attributor& method) {
    const dm::MotifScore score = dm::score_motifs(task_, data_, method);
    fmt::print("{:<16}  {:>4}  {:>7.4f}  {:>7.4f}  {:>7.2f}\n", name, seed_, score.auc,
               score.average_precision, score.seconds);
    std::fflush(stdout);
    rows.push_back({{"method", name},
                    {"seed", seed_},
                    {"auc", score.auc},
                    {"average_precision", score.average_precision},
                    {"nodes", data_.size()},
                    {"seconds", score.seconds}});
  }

  json rows = json::array();

 private:
  static std::vector<int64_t> chosen(const dm::MotifTask& task, const Settings& settings,
                                     uint64_t seed) {
    const auto nodes = settings.attached ? task.attached_nodes() : task.motifs.motif_nodes();
    const auto count = static_cast<int64_t>(nodes.size());
    if (settings.explained == 0 || settings.explained >= count) return nodes;
    const auto order = dm::shuffled(count, dm::make_generator(dm::derive_seed(seed, 101)));
    std::vector<int64_t> some;
    for (int64_t i = 0; i < settings.explained; ++i) some.push_back(nodes[order[i]]);
    return some;
  }

  uint64_t seed_;
  const dm::MotifTask& task_;
  dm::NodeDataset data_;
};

dm::DiffMask fitted_diffmask(const std::shared_ptr<dm::FrozenModel>& model,
                             const dm::MotifTask& task, const Settings& settings, uint64_t seed) {
  dm::DiffMask method(model, dm::motif_explainer());
  const auto data = [&](const std::vector<int64_t>& nodes) {
    return dm::NodeDataset(task.motifs.graph, task.in_motifs(nodes), 3);
  };
  const auto summary = method.fit(data(task.training), data(task.validation),
                                  {.epsilon = settings.epsilon,
                                   .steps = settings.steps,
                                   .batches = {.batch_size = settings.smoke ? 8 : 32},
                                   .seed = seed,
                                   .callbacks = {dm::progress_bar("DiffMask")},
                                   .recipe = dm::recipe::graphs()});
  fmt::print("{}\n", summary.full_report());
  return method;
}

json run(const Settings& settings, uint64_t seed) {
  const auto task = dm::train_motif_task(settings.data, {.net = kKinds.at(settings.net),
                                                         .epochs = settings.epochs,
                                                         .seed = seed,
                                                         .callbacks = {dm::progress_bar("model")}});
  fmt::print("{}, seed {}: {} nodes, {} edges; accuracy {:.3f} training, {:.3f} test ({:.1f} s)\n",
             settings.data, seed, task.motifs.graph.nodes(), task.motifs.graph.edges.size(1),
             task.accuracy(task.training), task.accuracy(task.test), task.summary.seconds);
  Scores scores(task, settings, seed);
  const auto model = dm::tapped(task.net, scores.data().batch({0}).inputs);
  dm::AttributionOptions at_edges;
  at_edges.sites = {"edge"};
  fmt::print("{:<16}  {:>4}  {:>7}  {:>7}  {:>7}\n", "method", "seed", "AUC", "AP", "seconds");
  scores.add("random", dm::Random(model, dm::make_generator(dm::derive_seed(seed, 102)), at_edges));
  scores.add("gradient", dm::Gradient(model, at_edges));
  scores.add("gradient x input", dm::GradientTimesInput(model, at_edges));
  dm::GnnExplainerOptions light;
  if (settings.smoke) light.steps = 5;
  scores.add("GNNExplainer", dm::GnnExplainer(model, at_edges, light));
  // The public implementation's settings, among them a mask over features that starts at a half.
  // Its entropy is over all N^2 entries of the adjacency, of which the edges are few, so that over
  // edges it is none. Averaged over the edges alone it is a different penalty.
  dm::GnnExplainerOptions published{
      .steps = settings.smoke ? 5 : 100, .initial = 1.0, .size = 0.005, .features = "features"};
  scores.add("  as published", dm::GnnExplainer(model, at_edges, published));
  published.entropy = 1.0;
  scores.add("  edges' entropy", dm::GnnExplainer(model, at_edges, published));
  if (settings.steps > 0) scores.add("DiffMask", fitted_diffmask(model, task, settings, seed));
  return scores.rows;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Masks over edges on graphs whose explanations are known");
  Settings settings;
  add_option(app, "--data", settings.data, "ba-shapes, ba-community, tree-cycles or tree-grid");
  add_option(app, "--seeds", settings.seeds, "Number of seeds");
  add_option(app, "--nodes", settings.explained, "Nodes to explain; 0: all in motifs");
  add_option(app, "--epochs", settings.epochs, "Epochs of the model");
  add_option(app, "--steps", settings.steps, "Steps of DiffMask; 0: leave it out");
  add_option(app, "--epsilon", settings.epsilon, "Divergence that DiffMask allows, in nats");
  add_option(app, "--threads", settings.threads, "Number of threads; 0: one per core");
  add_option(app, "--net", settings.net, "sum (the published net), gin or gcn")
      ->check(CLI::IsMember({"sum", "gin", "gcn"}));
  app.add_flag("--attached", settings.attached,
               "Only the node of each motif that joins it to the base, as published");
  app.add_option("--json", settings.json_file, "Write the rows here");
  app.add_flag("--smoke", settings.smoke, "A quick run of a few steps: its figures say nothing");
  CLI11_PARSE(app, argc, argv);
  if (settings.smoke) settings.epochs = 5, settings.steps = 3, settings.explained = 4;
  return reported("graphs", [&] {
    use_threads(settings.threads);
    json rows = json::array();
    for (uint64_t seed = 0; seed < settings.seeds; ++seed) {
      for (json& row : run(settings, seed)) rows.push_back(std::move(row));
    }
    write_json(settings.json_file, {{"data", settings.data}, {"rows", rows}});
    return 0;
  });
}
