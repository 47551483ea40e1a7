// All methods by all metrics, side by side, always with uniform and random scores.
//
//   ./examples/run compare                       the counting task, own data and model
//   ./examples/run compare --seeds 5             5 of them: cells are means and worst values
//   ./examples/run compare --data ../shared/data/toy    given data and model
//   ./examples/run compare --subject sst --data FOLDER --classifier FILE --explainers BEGIN
//
// On the counting task what decides is known, so D_KL and D_JS from it stand beside the metrics of
// faithfulness. On the Stanford Sentiment Treebank classifier and explainers come from files that
// `examples/run sst` writes. Prints tables as Markdown, and writes JSON and HTML where told to.
#include <CLI/CLI.hpp>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/learned/state_statistics.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/subject.hpp"
#include "diffmask/report/comparison_report.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "diffmask/zoo/tasks/counting_fit.hpp"
#include "diffmask/zoo/tasks/sentence_task.hpp"
#include "program.hpp"

namespace dm = diffmask;

namespace {

struct Options : CommonOptions {
  std::string subject = "toy", model, classifier, explainers, rationales, fill = "mean";
  std::vector<std::string> sites, methods;
  int64_t examples = 0, seeds = 1, steps = 2000, threads = 0;
};

// What is explained, and what was trained to explain it, by name: first by hidden states.
struct Explained : dm::Subject {
  std::vector<std::pair<std::string, std::shared_ptr<dm::DiffMask>>> explainers = {};
};

Explained counting(const Options& options, uint64_t seed) {
  dm::CountingFitOptions size;
  if (options.smoke) size = {.training = 600, .validation = 20, .epochs = 1};
  const dm::CountingFit task = options.data.empty()
                                   ? dm::fit_counting(seed, size, {dm::progress_bar("model")})
                                   : dm::read_counting_fit(options.data);
  Explained all{task.subject(seed + 1000)};
  auto trainer = dm::counting_training(seed, options.steps);
  if (options.smoke) trainer.recipe.warm_up = 2;
  for (const auto& [name, masking] : {std::pair{"diffmask (hidden)", dm::Masking::hidden},
                                      std::pair{"diffmask (input)", dm::Masking::input}}) {
    auto method = std::make_shared<dm::DiffMask>(all.model, dm::counting_explainer(masking));
    fmt::print(stderr, "{}: {}\n", name, method->fit(*all.training, trainer).brief_report());
    all.explainers.emplace_back(name, std::move(method));
  }
  return all;
}

// Classifier and explainers are those that `sst` wrote.
Explained treebank(const Options& options) {
  dm::require(!options.model.empty(), "--model", "an encoder's folder", "none");
  dm::require(!options.data.empty(), "--data", "the treebank's folder", "none");
  dm::require(!options.classifier.empty(), "--classifier", "a file that `sst` wrote", "none");
  const auto task = dm::make_sentence_task({.encoder = options.model, .data = options.data});
  dm::load_weights(*task.net, options.classifier);
  std::vector<dm::RationaleSentence> rationales;
  if (!options.rationales.empty()) rationales = dm::read_rationales(options.rationales);
  Explained all{task.subject(rationales, options.seed + 2)};
  for (const char* gating : {"hidden", "input"}) {
    if (options.explainers.empty()) continue;
    const auto file = fmt::format("{}-{}.safetensors", options.explainers, gating);
    all.explainers.emplace_back(
        fmt::format("diffmask ({})", gating),
        std::make_shared<dm::DiffMask>(dm::DiffMask::load(file, all.model)));
  }
  return all;
}

// Those asked for, and the controls; by default all but those that the subject trains by itself.
std::vector<std::string> chosen_methods(const Options& options) {
  if (!options.methods.empty()) return dm::with_controls(options.methods);
  std::vector<std::string> names = dm::method_names();
  for (const char* left_out : {"diffmask_hidden", "diffmask_input", "reinforce", "gnn_explainer"}) {
    std::erase(names, left_out);
  }
  return names;
}

dm::Fill fill_of(const Options& options, const Explained& all, uint64_t seed) {
  if (options.fill == "zero") return dm::fill::zero;
  if (options.fill == "other") return dm::fill::other_example(dm::make_generator(seed));
  if (options.fill == "mean") return dm::mean_fill(*all.model, {}, *all.training);
  dm::require(!all.explainers.empty(), "--explainers", "given, for --fill learned", "none");
  return all.explainers.front().second->learned_fill();
}

dm::Comparison compare(const Options& options, const Explained& all, uint64_t seed, int64_t runs) {
  const dm::AttributionOptions common{.target = dm::target::predicted_logit,
                                      .fill = fill_of(options, all, seed),
                                      .zero_where_independent = true};
  std::vector<dm::ComparedMethod> methods;
  for (const std::string& name : chosen_methods(options)) {
    auto settings = dm::comparison_settings(name);
    if (options.smoke) {
      settings.steps = settings.training_steps = settings.example_steps = 2;
      settings.max_passes = settings.random_passes = 8;
    }
    methods.push_back(dm::compared_method(dm::method(name), common, settings, all.training));
  }
  for (const auto& [name, explainer] : all.explainers) {
    methods.push_back(dm::compared_explainer(name, all.model, explainer));
  }
  return dm::compare(all.first(options.examples), methods,
                     {.sites = options.sites,
                      .faithfulness = {.fill = common.fill},
                      .seeds = runs,
                      .seed = seed,
                      .progress = [](const std::string& method, const std::string& site) {
                        fmt::print(stderr, "{} at {}\n", method, site);
                      }});
}

int run(Options options) {
  dm::Comparison all;
  if (options.subject == "toy") {
    if (options.sites.empty()) options.sites = {"embedding", "encoder"};
    for (uint64_t run = 0; run < static_cast<uint64_t>(options.seeds); ++run) {
      const uint64_t seed = options.seed + run;
      all.add(compare(options, counting(options, seed), seed, 1));
    }
  } else {
    if (options.sites.empty()) options.sites = {"word_embeddings", "layer.2"};
    all = compare(options, treebank(options), options.seed, options.seeds);
  }
  fmt::print("{}", dm::markdown_comparison(all));
  const auto note = fmt::format("{}; states are replaced by: {}; eps {:g} nats.", options.subject,
                                options.fill, dm::ComparisonOptions{}.epsilon);
  if (!options.json.empty()) dm::write_file(options.json, dm::json_comparison(all));
  if (options.html.empty()) return 0;
  dm::write_file(options.html, dm::html_comparison("Methods compared", note, all));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("All attribution methods by all metrics, on a task with a known answer or on text");
  Options options;
  options.add_to(app,
                 "toy: folder with examples.csv and model.safetensors, in place of own ones; "
                 "sst: the treebank's folder");
  add_option(app, "--subject", options.subject, "What is explained")
      ->check(CLI::IsMember({"toy", "sst"}));
  app.add_option("--model", options.model, "Hugging Face folder of sst's encoder");
  app.add_option("--classifier", options.classifier, "File of its fine-tuned weights");
  app.add_option("--explainers", options.explainers,
                 "How the names of its explainers' files begin: BEGIN-hidden.safetensors, "
                 "BEGIN-input.safetensors");
  app.add_option(
      "--rationales", options.rationales,
      "Table of FairRationales for sst: its sentences come first, and are compared with");
  add_number(app, "--examples", options.examples, "Number of examples, the first ones; 0: all", 0);
  add_number(app, "--steps", options.steps, "Training steps of toy's explainers");
  app.add_option("--sites", options.sites,
                 "Sites to explain; by default both of toy, word_embeddings and layer.2 of sst")
      ->delimiter(',');
  app.add_option("--methods", options.methods,
                 "Names of methods, beside uniform, random and trained explainers; by default all "
                 "but those that train explainers, and gnn_explainer")
      ->delimiter(',')
      ->check(CLI::IsMember(dm::method_names()));
  add_option(app, "--fill", options.fill, "What replaces a state")
      ->check(CLI::IsMember({"zero", "mean", "learned", "other"}));
  add_number(app, "--seeds", options.seeds,
             "toy: number of models; sst: number of runs per method");
  add_number(app, "--threads", options.threads, "Number of threads; 0: one per core", 0);
  CLI11_PARSE(app, argc, argv);
  if (options.smoke) options.steps = 2, options.examples = 8, options.threads = 1;
  return reported("compare", [&] {
    use_threads(options.threads);
    return run(options);
  });
}
