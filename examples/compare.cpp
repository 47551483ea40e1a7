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
#include "diffmask/attribution/learned/infomask.hpp"
#include "diffmask/attribution/learned/information_bottleneck.hpp"
#include "diffmask/attribution/learned/noise_tolerance.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/report/comparison_report.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "encoders.hpp"
#include "sst_words.hpp"

namespace dm = diffmask;

namespace {

struct Options {
  std::string subject = "toy", data, model, classifier, explainers, rationales, fill = "mean",
              markdown, json, html;
  std::vector<std::string> sites, methods;
  std::vector<double> keep_rates = {0.2, 0.5};
  int64_t seeds = 1, examples = 0, steps = 2000, integral_steps = 20, budget = 200,
          probe_steps = 200, sample_steps = 100, threads = 0;
  double epsilon = 0.05;
  bool bfloat16 = false;
};

// All that need no explainer of files, by name.
std::vector<std::string> all_methods() {
  std::vector<std::string> names = dm::method_names();
  names.insert(names.end(), {"bottleneck", "bottleneck_read_out", "noise_tolerance", "infomask",
                             "DiffMask per-sample", "REINFORCE per-sample"});
  return names;
}

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
  std::shared_ptr<const dm::Dataset> all, training;
  std::shared_ptr<const dm::Dataset> data;  // those of all that are explained
  std::vector<std::string> names;           // of the explainers
  std::vector<std::shared_ptr<dm::DiffMask>> explainers;
  std::function<at::Tensor(const dm::Batch&)> truth = nullptr;
};

// The first so many in this order; 0: all.
std::vector<int64_t> first_of(std::vector<int64_t> order, int64_t examples) {
  if (examples > 0) order.resize(std::min(order.size(), static_cast<size_t>(examples)));
  return order;
}

// What is true of some examples, row by row. Shape: truth (N, T), of all.
std::function<at::Tensor(const dm::Batch&)> truth_of(const at::Tensor& truth,
                                                     const std::vector<int64_t>& examples) {
  return [some = truth.index_select(0, at::tensor(examples, at::kLong))](const dm::Batch& batch) {
    return some.index_select(0, batch.examples).narrow(1, 0, batch.mask.size(1));
  };
}

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
            own.divergence = dm::divergence::classes;
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

// DiffMask's logits for each example alone, and the same by REINFORCE, with gates that are 0 or 1.
std::vector<dm::ComparedMethod> per_sample_methods(const Options& options, const Subject& subject) {
  std::vector<dm::ComparedMethod> methods;
  for (const auto& [name, kind] : {std::pair{"DiffMask per-sample", dm::GateKind::hard_concrete},
                                   std::pair{"REINFORCE per-sample", dm::GateKind::bernoulli}}) {
    dm::ExplainerOptions explainer;
    explainer.per_sample = true;
    explainer.gate_kind = kind;
    dm::TrainerOptions trainer;
    trainer.epsilon = options.epsilon;
    trainer.divergence = dm::divergence::classes;
    trainer.steps = trainer.validate_every = options.sample_steps;
    trainer.warm_up = 20;
    trainer.gate_rate = 0.2;
    methods.push_back(
        {name,
         [=, own = subject.model, data = subject.data](const Model& model, const std::string& site,
                                                       uint64_t seed) mutable -> dm::Explain {
           if (model != own) return nullptr;
           explainer.sites = {site};
           trainer.seed = seed;
           return [=](const dm::Batch& batch) {
             std::vector<int64_t> examples(batch.examples.data_ptr<int64_t>(),
                                           batch.examples.data_ptr<int64_t>() + batch.size());
             const dm::Subset these(data, examples);
             dm::TrainerOptions whole = trainer;
             whole.batches.batch_size = batch.size();
             dm::DiffMask method(model, explainer);
             method.fit(these, whole);
             auto attribution = method.attribute(these.batch(dm::iota(batch.size())));
             // The recording, the steps, validation by both gates, explaining.
             attribution.passes = batch.size() * (1 + whole.warm_up + whole.steps + 3);
             return attribution;
           };
         }});
  }
  return methods;
}

dm::Comparison compare(const Options& options, const Subject& subject, uint64_t seed,
                       int64_t runs) {
  dm::AttributionOptions common;
  common.target = dm::target::predicted_logit;
  common.fill = fill_of(options, subject, seed);
  common.zero_where_independent = true;
  // Searches within a budget: each runs on every example.
  auto methods = dm::compared_methods({}, common,
                                      {.steps = options.integral_steps,
                                       .beam = 1,
                                       .max_passes = options.budget,
                                       .random_passes = options.budget});
  for (auto& method : learned_methods(common, subject, options.probe_steps)) {
    methods.push_back(std::move(method));
  }
  for (auto& method : per_sample_methods(options, subject)) methods.push_back(std::move(method));
  std::vector<std::string> named = options.methods.empty() ? all_methods() : options.methods;
  named.insert(named.end(), {"uniform", "random"});
  std::erase_if(methods, [&](const dm::ComparedMethod& method) {
    return std::find(named.begin(), named.end(), method.name) == named.end();
  });
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
  const auto examples = first_of(dm::iota(subject.all->size()), options.examples);
  subject.data = std::make_shared<dm::Subset>(subject.all, examples);
  subject.truth = truth_of(task.validation.relevant(), examples);
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
  return subject;
}

// The tokens of words that at least half of the annotators marked. Shape: (N, T) bool.
at::Tensor marked_tokens(const std::string& rationales, const sst::Part& part) {
  at::Tensor marked = at::zeros({part.data.size(), part.data.longest()}, at::kBool);
  for (const dm::RationaleSentence& sentence : dm::read_rationales(rationales)) {
    if (sentence.split != "test" || sentence.line < 0) continue;
    std::vector<bool> decisive(sentence.words.size());
    for (size_t w = 0; w < decisive.size(); ++w) {
      const auto votes = std::count_if(sentence.rationales.begin(), sentence.rationales.end(),
                                       [&](const dm::Rationale& of) { return of.is_decisive[w]; });
      decisive[w] = 2 * static_cast<size_t>(votes) >= sentence.rationales.size();
    }
    const auto i = static_cast<size_t>(sentence.line);
    const auto leaves = sst::between_spaces(decisive, sentence.words, part.sentences[i].words);
    const auto& words = part.data.encodings()[i].words;
    for (size_t t = 0; t < words.size() && !leaves.empty(); ++t) {
      if (words[t] < 0 || !leaves[static_cast<size_t>(words[t])]) continue;
      marked[sentence.line][static_cast<int64_t>(t)].fill_(true);
    }
  }
  return marked;
}

Subject treebank(const Options& options) {
  constexpr int64_t kClasses = 5;
  const auto tokenizer = dm::WordPiece::load(options.model);
  const auto part = [&](const char* name) {
    return std::make_shared<sst::Part>(
        sst::encoded(dm::read_trees(fmt::format("{}/{}.txt", options.data, name)), tokenizer,
                     {.padding = tokenizer.padding()}));
  };
  const auto test = part("test"), development = part("dev");
  const auto data_of = [](const std::shared_ptr<sst::Part>& of) {
    return std::shared_ptr<const dm::Dataset>(of, &of->data);
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
  Subject subject{dm::staged(net), dm::staged(random), data_of(test), data_of(development)};
  // Sentences that people marked come first.
  std::vector<int64_t> order = dm::iota(subject.all->size());
  at::Tensor marked;
  if (!options.rationales.empty()) {
    marked = marked_tokens(options.rationales, *test);
    std::stable_partition(order.begin(), order.end(),
                          [&](int64_t i) { return marked[i].any().item<bool>(); });
  }
  order = first_of(std::move(order), options.examples);
  if (marked.defined()) subject.truth = truth_of(marked, order);
  subject.data = std::make_shared<dm::Subset>(subject.all, order);
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
  if (options.subject == "toy") {
    if (options.sites.empty()) options.sites = {"embedding", "encoder"};
    for (int64_t seed = 0; seed < options.seeds; ++seed) {
      all.add(compare(options, counting(options, static_cast<uint64_t>(seed)),
                      static_cast<uint64_t>(seed), 1));
    }
  } else {
    dm::require(!options.classifier.empty(), "--classifier", "a file that `sst` wrote", "none");
    if (options.sites.empty()) options.sites = {"word_embeddings", "layer.2"};
    all = compare(options, treebank(options), 0, options.seeds);
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
  app.add_option(
      "--rationales", options.rationales,
      "Table of FairRationales for sst: its sentences come first, and are compared with");
  app.add_option("--sites", options.sites, "Where; toy: both, sst: word_embeddings and layer.2")
      ->delimiter(',');
  app.add_option("--methods", options.methods,
                 "Which, beside uniform and random scores and trained explainers; all if none is "
                 "named")
      ->delimiter(',')
      ->check(CLI::IsMember(all_methods()));
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
  app.add_option("--sample-steps", options.sample_steps, "Of the methods per sample")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--bfloat16", options.bfloat16,
               "All matrix products in bfloat16, where the processor has them: faster, less exact");
  app.add_option("--threads", options.threads, "Threads; 0: one a core")->capture_default_str();
  app.add_option("--markdown", options.markdown, "Write the tables here");
  app.add_option("--json", options.json, "Write figures and curves here");
  app.add_option("--html", options.html, "Write a page here");
  CLI11_PARSE(app, argc, argv);
  return reported("compare", [&] {
    use_threads(options.threads);
    const Bfloat16Products fast(options.bfloat16);
    return run(options);
  });
}
