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

#include "counting_task.hpp"
#include "diffmask/attribution/infomask.hpp"
#include "diffmask/attribution/information_bottleneck.hpp"
#include "diffmask/attribution/noise_tolerance.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/data/encoded.hpp"
#include "diffmask/data/trees.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/nets/bert.hpp"
#include "diffmask/nets/weights.hpp"
#include "diffmask/report/comparison_report.hpp"
#include "encoders.hpp"

namespace dm = diffmask;

namespace {

struct Options {
  std::string subject = "toy", data, model, classifier, explainers, fill = "mean", markdown, json,
              html;
  std::vector<std::string> sites, methods;
  std::vector<double> keep_rates = {0.2, 0.5};
  int64_t seeds = 1, examples = 0, steps = 2000, integral_steps = 20, budget = 200,
          probe_steps = 200, threads = 0;
  double epsilon = 0.05;
};

using Model = std::shared_ptr<const dm::FrozenModel>;
using States = std::map<std::string, at::Tensor>;

States learned_baselines(const std::vector<std::shared_ptr<dm::DiffMask>>& explainers) {
  States learned;
  for (const auto& method : explainers) {
    const dm::Explainer& explainer = method->explainer();
    const auto baselines = explainer.baselines();
    for (size_t i = 0; i < baselines.size(); ++i) {
      learned.emplace(explainer.masked_site(static_cast<int64_t>(i)), baselines[i].detach());
    }
  }
  return learned;
}

// What is explained: a model, its examples, what was trained to explain it, and what is known.
struct Subject {
  Model model, randomised;
  std::shared_ptr<const dm::Dataset> data, training;
  std::vector<std::string> names;  // of the explainers
  std::vector<std::shared_ptr<dm::DiffMask>> explainers;
  std::function<at::Tensor(const dm::Batch&)> truth = nullptr;
};

dm::Fill fill_of(const Options& options, const Subject& subject, uint64_t seed) {
  if (options.fill == "zero") return dm::fill::zero;
  if (options.fill == "other") return dm::fill::other_example(dm::make_generator(seed));
  if (options.fill == "learned") return dm::fill::given(learned_baselines(subject.explainers));
  return dm::mean_fill(*subject.model, {}, *subject.training);
}

// A method of learned noise or masks. `fit` gives it what it has to know of training data, of
// `models` alone (none: of any), as only they read such data: not one that begins at a site.
template <typename Kind, typename Own, typename Fit>
dm::ComparedMethod learned(const std::string& name, const dm::AttributionOptions& common, Own own,
                           const Fit& fit, const std::vector<Model>& models = {}) {
  return {name,
          [=](const Model& model, const std::string& site, uint64_t seed) mutable -> dm::Explain {
            if (!models.empty() && std::find(models.begin(), models.end(), model) == models.end()) {
              return nullptr;
            }
            dm::AttributionOptions options = common;
            options.sites = {site};
            own.divergence = dm::class_divergence;
            if constexpr (requires { own.seed; }) own.seed = seed;
            const auto method = std::make_shared<Kind>(model, options, own);
            fit(*method, seed);
            return [method](const dm::Batch& batch) { return method->attribute(batch); };
          }};
}

// In few steps, each of which is a pass with a gradient: they run on every example.
std::vector<dm::ComparedMethod> learned_methods(const dm::AttributionOptions& common,
                                                const Subject& subject, int64_t probe_steps) {
  const auto training = subject.training;
  const std::vector<Model> models = {subject.model, subject.randomised};
  const auto untrained = [](auto&, uint64_t) {};
  const auto statistics = [training](auto& method, uint64_t) { method.fit(*training); };
  const auto probes = [training, probe_steps](auto& method, uint64_t seed) {
    method.fit(*training, {.steps = probe_steps, .batches = {.by_length = true}, .seed = seed});
  };
  dm::InformationBottleneckOptions bottleneck;
  bottleneck.steps = 30;
  bottleneck.draws = 2;
  return {learned<dm::InformationBottleneck>("bottleneck", common, bottleneck, statistics, models),
          learned<dm::ReadOutBottleneck>("bottleneck_read_out", common, dm::BottleneckOptions{},
                                         probes, models),
          learned<dm::NoiseTolerance>(
              "noise_tolerance", common,
              dm::NoiseToleranceOptions{.steps = 30, .draws = 2, .rate = 0.3}, untrained),
          learned<dm::InfoMask>("infomask", common, dm::InfoMaskOptions{}, probes, models)};
}

dm::Comparison compare(const Options& options, const Subject& subject, uint64_t seed,
                       int64_t runs) {
  dm::AttributionOptions common;
  common.target = dm::predicted_logit;
  common.fill = fill_of(options, subject, seed);
  common.zero_where_independent = true;
  std::vector<std::string> names = options.methods;
  for (const char* control : {"random", "uniform"}) {
    if (!names.empty() && std::find(names.begin(), names.end(), control) == names.end()) {
      names.insert(names.begin(), control);
    }
  }
  // Searches within a budget: each runs on every example.
  auto methods = dm::compared_methods(names, common,
                                      {.steps = options.integral_steps,
                                       .beam = 1,
                                       .max_passes = options.budget,
                                       .random_passes = options.budget});
  if (options.methods.empty()) {
    for (auto& method : learned_methods(common, subject, options.probe_steps)) {
      methods.push_back(std::move(method));
    }
  }
  for (size_t i = 0; i < subject.explainers.size(); ++i) {
    methods.push_back(
        dm::compared_explainer(subject.names[i], subject.model, subject.explainers[i]));
  }
  dm::ComparisonOptions own;
  own.sites = options.sites;
  own.faithfulness.fill = common.fill;
  own.epsilon = options.epsilon;
  own.keep_rates = options.keep_rates;
  own.seeds = runs;
  own.seed = seed;
  own.randomised = subject.randomised;
  own.truth = subject.truth;
  own.progress = [](const std::string& method, const std::string& site) {
    fmt::print(stderr, "{} at {}\n", method, site);
  };
  return dm::compare(subject.model, *subject.data, methods, own);
}

Subject counting(const Options& options, uint64_t seed) {
  const Task task = options.data.empty() ? own_task(seed) : given_task(options.data);
  const auto fresh = std::make_shared<dm::CountingNet>(dm::make_generator(seed + 1000));
  fresh->eval();
  Subject subject{dm::staged(task.net), dm::staged(fresh),
                  std::make_shared<dm::PaddedDataset>(task.validation.dataset()),
                  std::make_shared<dm::PaddedDataset>(task.training.dataset())};
  for (const auto& [name, masking] : {std::pair{"DiffMask hidden", dm::Masking::hidden},
                                      std::pair{"DiffMask input", dm::Masking::input}}) {
    dm::ExplainerOptions explainer = counting_explainer();
    explainer.masking = masking;
    auto method = std::make_shared<dm::DiffMask>(subject.model, explainer);
    fmt::print(stderr, "{}: {}\n", name,
               method->fit(*subject.training, counting_recipe(seed, options.steps)).brief_report());
    subject.names.push_back(name);
    subject.explainers.push_back(std::move(method));
  }
  subject.truth = [relevant = task.validation.relevant()](const dm::Batch& batch) {
    return relevant.index_select(0, batch.examples).narrow(1, 0, batch.mask.size(1));
  };
  return subject;
}

Subject treebank(const Options& options) {
  constexpr int64_t kClasses = 5;
  const auto tokenizer = dm::WordPiece::load(options.model);
  const auto part = [&](const char* name) {
    std::vector<dm::Encoding> encodings;
    std::vector<int64_t> labels;
    for (const auto& sentence : dm::read_trees(fmt::format("{}/{}.txt", options.data, name))) {
      encodings.push_back(tokenizer.encode_words(sentence.words));
      labels.push_back(sentence.label);
    }
    return std::make_shared<dm::EncodedDataset>(std::move(encodings), at::tensor(labels, at::kLong),
                                                dm::EncodedOptions{.padding = tokenizer.padding()});
  };
  const auto fresh = [&](uint64_t seed) {
    return dm::load_bert(options.model, {.classes = kClasses}, dm::make_generator(seed));
  };
  const auto net = fresh(0);
  dm::load_weights(*net, options.classifier);
  net->eval();
  const auto random = fresh(1);
  {
    at::NoGradGuard no_grad;
    const at::Generator generator = dm::make_generator(2);
    for (at::Tensor& tensor : random->parameters()) {
      if (tensor.dim() > 1) tensor.normal_(0, 0.02, generator);
    }
  }
  random->eval();
  Subject subject{dm::staged(net), dm::staged(random), part("test"), part("dev")};
  for (const char* gating : {"hidden", "input"}) {
    if (options.explainers.empty()) continue;
    const std::string file = fmt::format("{}-{}.safetensors", options.explainers, gating);
    subject.explainers.push_back(
        std::make_shared<dm::DiffMask>(dm::DiffMask::load(file, subject.model)));
    subject.names.push_back(fmt::format("DiffMask {}", gating));
  }
  return subject;
}

int run(Options options) {
  dm::Comparison all;
  const auto shown = [&](Subject& subject) {
    const int64_t size = subject.data->size();
    if (options.examples == 0 || options.examples >= size) return subject.data;
    const auto order = dm::iota(options.examples);
    return std::shared_ptr<const dm::Dataset>(std::make_shared<dm::Subset>(*subject.data, order));
  };
  std::vector<std::shared_ptr<const dm::Dataset>> kept;  // what subsets refer to
  if (options.subject == "toy") {
    if (options.sites.empty()) options.sites = {"embedding", "encoder"};
    for (int64_t seed = 0; seed < options.seeds; ++seed) {
      Subject subject = counting(options, static_cast<uint64_t>(seed));
      kept.push_back(subject.data);
      subject.data = shown(subject);
      all.add(compare(options, subject, static_cast<uint64_t>(seed), 1));
    }
  } else {
    dm::require(!options.classifier.empty(), "--classifier", "a file that `sst` wrote", "none");
    if (options.sites.empty()) options.sites = {"word_embeddings", "layer.2"};
    Subject subject = treebank(options);
    kept.push_back(subject.data);
    subject.data = shown(subject);
    all = compare(options, subject, 0, options.seeds);
  }
  fmt::print("{}", dm::markdown_comparison(all));
  if (!options.markdown.empty()) dm::write_file(options.markdown, dm::markdown_comparison(all));
  if (!options.json.empty()) dm::write_file(options.json, dm::json_comparison(all));
  if (!options.html.empty()) {
    dm::write_file(options.html,
                   dm::html_comparison("Methods compared",
                                       fmt::format("{}; states are replaced by: {}; eps {:g} nats.",
                                                   options.subject, options.fill, options.epsilon),
                                       all));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("All attribution methods by all metrics, on a task with a known answer or on text");
  Options options;
  app.add_option("--subject", options.subject, "What is explained")
      ->check(CLI::IsMember({"toy", "sst"}))
      ->capture_default_str();
  app.add_option("--data", options.data,
                 "Toy: folder with examples.csv and model.safetensors, in place of own ones; sst: "
                 "the treebank's folder")
      ->check(CLI::ExistingDirectory);
  app.add_option("--model", options.model, "Hugging Face folder of sst's encoder");
  app.add_option("--classifier", options.classifier, "Its fine-tuned weights");
  app.add_option(
      "--explainers", options.explainers,
      "Begin of its explainers' files: BEGIN-hidden.safetensors, BEGIN-input.safetensors");
  app.add_option("--sites", options.sites, "Where; toy: both, sst: word_embeddings and layer.2")
      ->delimiter(',');
  app.add_option("--methods", options.methods, "Which; all if none is named")
      ->delimiter(',')
      ->check(CLI::IsMember(dm::method_names()));
  app.add_option("--fill", options.fill, "What replaces a state")
      ->check(CLI::IsMember({"zero", "mean", "learned", "other"}))
      ->capture_default_str();
  app.add_option("--keep-rates", options.keep_rates, "Shares kept by all methods alike")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--epsilon", options.epsilon, "Divergence allowed, in nats")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--examples", options.examples, "The first so many; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seeds", options.seeds, "Toy: models; sst: runs of what draws")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--steps", options.steps, "Training steps of toy's explainers")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--integral-steps", options.integral_steps, "Of integrated gradients")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--budget", options.budget, "Passes an example of exact and random search")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--probe-steps", options.probe_steps,
                 "Training steps of the methods with probes: bottleneck_read_out and infomask")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads; 0: one a core")->capture_default_str();
  app.add_option("--markdown", options.markdown, "Write the tables here");
  app.add_option("--json", options.json, "Write figures and curves here");
  app.add_option("--html", options.html, "Write a page here");
  CLI11_PARSE(app, argc, argv);
  return reported("compare", [&] {
    use_threads(options.threads);
    return run(options);
  });
}
