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
#include <map>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/learned/noise_tolerance.hpp"
#include "diffmask/attribution/learned/state_statistics.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/report/comparison_report.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "diffmask/zoo/tasks/counting_fit.hpp"
#include "diffmask/zoo/tasks/marked_tokens.hpp"
#include "diffmask/zoo/tasks/sentence_task.hpp"
#include "program.hpp"

namespace dm = diffmask;

namespace {

struct Options {
  std::string subject = "toy", data, model, classifier, explainers, rationales, fill = "mean";
  std::string markdown, json, html;
  std::vector<std::string> sites, methods;
  int64_t examples = 0, seeds = 1, steps = 2000, threads = 0;
  bool smoke = false;
};

// What is explained: a model, its examples, what was trained to explain it, and what is known.
struct Subject {
  std::shared_ptr<const dm::FrozenModel> model, randomised;
  std::shared_ptr<const dm::Dataset> training, data;
  at::Tensor truth = {};  // (N, T) bool, of all data
  std::vector<std::pair<std::string, std::shared_ptr<dm::DiffMask>>> explainers = {};
};

Subject counting(const Options& options, uint64_t seed) {
  dm::CountingFitOptions size;
  if (options.smoke) size = {.training = 600, .validation = 20, .epochs = 1};
  const dm::CountingFit task = options.data.empty()
                                   ? dm::fit_counting(seed, size, {dm::progress_bar("model")})
                                   : dm::read_counting_fit(options.data);
  const auto fresh = std::make_shared<dm::CountingNet>(dm::make_generator(seed + 1000));
  fresh->eval();
  Subject subject{dm::staged(task.net), dm::staged(fresh),
                  std::make_shared<dm::PaddedDataset>(task.training.dataset()),
                  std::make_shared<dm::PaddedDataset>(task.validation.dataset()),
                  task.validation.relevant()};
  auto trainer = dm::counting_training(seed, options.steps);
  if (options.smoke) trainer.recipe.warm_up = 2;
  for (const auto& [name, masking] : {std::pair{"diffmask (hidden)", dm::Masking::hidden},
                                      std::pair{"diffmask (input)", dm::Masking::input}}) {
    auto method = std::make_shared<dm::DiffMask>(subject.model, dm::counting_explainer(masking));
    fmt::print(stderr, "{}: {}\n", name, method->fit(*subject.training, trainer).brief_report());
    subject.explainers.emplace_back(name, std::move(method));
  }
  return subject;
}

// Classifier and explainers are those that `sst` wrote.
Subject treebank(const Options& options) {
  dm::require(!options.model.empty(), "--model", "an encoder's folder", "none");
  dm::require(!options.data.empty(), "--data", "the treebank's folder", "none");
  dm::require(!options.classifier.empty(), "--classifier", "a file that `sst` wrote", "none");
  const auto task = std::make_shared<dm::SentenceTask>(
      dm::make_sentence_task({.encoder = options.model, .data = options.data}));
  dm::load_weights(*task->net, options.classifier);
  Subject subject{task->model,
                  task->randomised(/*seed=*/2),
                  {task, &task->development.data},
                  {task, &task->test.data}};
  if (!options.rationales.empty()) {
    subject.truth = dm::marked_tokens(dm::read_rationales(options.rationales), "test", task->test);
  }
  for (const std::string gating : {"hidden", "input"}) {
    if (options.explainers.empty()) continue;
    const std::string file = fmt::format("{}-{}.safetensors", options.explainers, gating);
    subject.explainers.emplace_back(
        fmt::format("diffmask ({})", gating),
        std::make_shared<dm::DiffMask>(dm::DiffMask::load(file, subject.model)));
  }
  return subject;
}

// The first so many examples; those of which it is known what decides come first.
std::vector<int64_t> chosen_examples(const Options& options, const Subject& subject) {
  std::vector<int64_t> order = dm::iota(subject.data->size());
  if (subject.truth.defined() && options.subject == "sst") {
    std::stable_partition(order.begin(), order.end(),
                          [&](int64_t i) { return subject.truth[i].any().item<bool>(); });
  }
  if (options.examples > 0) {
    order.resize(std::min(order.size(), static_cast<size_t>(options.examples)));
  }
  return order;
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

dm::Fill fill_of(const Options& options, const Subject& subject, uint64_t seed) {
  if (options.fill == "zero") return dm::fill::zero;
  if (options.fill == "other") return dm::fill::other_example(dm::make_generator(seed));
  if (options.fill == "mean") return dm::mean_fill(*subject.model, {}, *subject.training);
  std::map<std::string, at::Tensor> learned;
  for (const auto& [name, method] : subject.explainers) {
    const auto baselines = method->explainer().baselines();
    for (size_t i = 0; i < baselines.size(); ++i) {
      learned.emplace(method->explainer().masked_site(static_cast<int64_t>(i)),
                      baselines[i].detach());
    }
  }
  return dm::fill::given(learned);
}

// Each step is a pass with a gradient, and each method explains every example: few steps.
dm::MethodSettings settings_of(const Options& options, const std::string& method) {
  dm::MethodSettings settings{.steps = 20,
                              .beam = 1,
                              .max_passes = 200,
                              .random_passes = 200,
                              .epsilon = 0.05,
                              .training_steps = 200,
                              .batches = {.by_length = true},
                              .example_steps = method.ends_with("_per_sample") ? 100 : 30,
                              .draws = 2};
  if (options.smoke) {
    settings.steps = settings.training_steps = settings.example_steps = 2;
    settings.max_passes = settings.random_passes = 8;
  }
  return settings;
}

dm::Comparison compare(const Options& options, const Subject& subject, uint64_t seed,
                       int64_t runs) {
  dm::AttributionOptions common{.target = dm::target::predicted_logit,
                                .fill = fill_of(options, subject, seed),
                                .zero_where_independent = true};
  std::vector<dm::ComparedMethod> methods;
  for (const std::string& name : chosen_methods(options)) {
    dm::Method method = dm::method(name);
    if (name == "noise_tolerance") {
      method.build = [](const dm::MethodRequest& request) {  // the same in larger steps
        return std::make_unique<dm::NoiseTolerance>(
            request.model, request.options,
            dm::NoiseToleranceOptions{.divergence = request.settings.divergence,
                                      .steps = request.settings.example_steps,
                                      .draws = request.settings.draws,
                                      .rate = 0.3,
                                      .seed = request.settings.seed});
      };
    }
    methods.push_back(
        dm::compared_method(method, common, settings_of(options, name), subject.training));
  }
  for (const auto& [name, explainer] : subject.explainers) {
    methods.push_back(dm::compared_explainer(name, subject.model, explainer));
  }
  const auto order = chosen_examples(options, subject);
  std::function<at::Tensor(const dm::Batch&)> truth;
  if (subject.truth.defined()) {
    truth = dm::truth_rows(subject.truth.index_select(0, at::tensor(order)));
  }
  return dm::compare(subject.model, dm::Subset(subject.data, order), methods,
                     {.sites = options.sites,
                      .faithfulness = {.fill = common.fill},
                      .seeds = runs,
                      .seed = seed,
                      .randomised = subject.randomised,
                      .truth = truth,
                      .progress = [](const std::string& method, const std::string& site) {
                        fmt::print(stderr, "{} at {}\n", method, site);
                      }});
}

int run(Options options) {
  dm::Comparison all;
  if (options.subject == "toy") {
    if (options.sites.empty()) options.sites = {"embedding", "encoder"};
    for (uint64_t seed = 0; seed < static_cast<uint64_t>(options.seeds); ++seed) {
      all.add(compare(options, counting(options, seed), seed, 1));
    }
  } else {
    if (options.sites.empty()) options.sites = {"word_embeddings", "layer.2"};
    all = compare(options, treebank(options), 0, options.seeds);
  }
  fmt::print("{}", dm::markdown_comparison(all));
  const auto note = fmt::format("{}; states are replaced by: {}; eps {:g} nats.", options.subject,
                                options.fill, dm::ComparisonOptions{}.epsilon);
  for (const auto& [file, text] :
       {std::pair{options.markdown, dm::markdown_comparison(all)},
        std::pair{options.json, dm::json_comparison(all)},
        std::pair{options.html, dm::html_comparison("Methods compared", note, all)}}) {
    if (!file.empty()) dm::write_file(file, text);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("All attribution methods by all metrics, on a task with a known answer or on text");
  Options options;
  add_option(app, "--subject", options.subject, "What is explained")
      ->check(CLI::IsMember({"toy", "sst"}));
  app.add_option("--data", options.data,
                 "toy: folder with examples.csv and model.safetensors, in place of own ones; "
                 "sst: the treebank's folder")
      ->check(CLI::ExistingDirectory);
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
  app.add_option("--markdown", options.markdown, "File to write the tables to");
  app.add_option("--json", options.json, "File to write figures and curves to");
  app.add_option("--html", options.html, "File to write a page to");
  app.add_flag("--smoke", options.smoke, "A quick run of a few steps: its figures say nothing");
  CLI11_PARSE(app, argc, argv);
  if (options.smoke) options.steps = 2, options.examples = 8, options.threads = 1;
  return reported("compare", [&] {
    use_threads(options.threads);
    return run(options);
  });
}
