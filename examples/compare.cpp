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

#include "compare_subjects.hpp"
#include "diffmask/attribution/learned/noise_tolerance.hpp"
#include "diffmask/attribution/learned/state_statistics.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/report/comparison_report.hpp"
#include "diffmask/zoo/nets/fine_tuning.hpp"
#include "program.hpp"

namespace {

struct Options {
  SubjectOptions subject;
  std::string fill = "mean", markdown, json, html;
  std::vector<std::string> sites, methods;
  std::vector<double> keep_rates = {0.2, 0.5};
  int64_t seeds = 1, integral_steps = 20, budget = 200, probe_steps = 200, sample_steps = 100,
          threads = 0;
  double epsilon = 0.05;
  bool bfloat16 = false;
};

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
  const bool per_sample = method.ends_with("_per_sample");
  return {.steps = options.integral_steps,
          .beam = 1,
          .max_passes = options.budget,
          .random_passes = options.budget,
          .epsilon = options.epsilon,
          .training_steps = options.probe_steps,
          .batches = {.by_length = true},
          .example_steps = per_sample              ? options.sample_steps
                           : options.subject.smoke ? 2
                                                   : 30,
          .draws = 2};
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
  return dm::compare(subject.model, *subject.data, methods,
                     {.sites = options.sites,
                      .faithfulness = {.fill = common.fill},
                      .epsilon = options.epsilon,
                      .keep_rates = options.keep_rates,
                      .seeds = runs,
                      .seed = seed,
                      .randomised = subject.randomised,
                      .truth = subject.truth,
                      .progress = [](const std::string& method, const std::string& site) {
                        fmt::print(stderr, "{} at {}\n", method, site);
                      }});
}

int run(Options options) {
  dm::Comparison all;
  if (options.subject.name == "toy") {
    if (options.sites.empty()) options.sites = {"embedding", "encoder"};
    for (uint64_t seed = 0; seed < static_cast<uint64_t>(options.seeds); ++seed) {
      all.add(compare(options, counting(options.subject, seed), seed, 1));
    }
  } else {
    if (options.sites.empty()) options.sites = {"word_embeddings", "layer.2"};
    all = compare(options, treebank(options.subject), 0, options.seeds);
  }
  fmt::print("{}", dm::markdown_comparison(all));
  const auto note = fmt::format("{}; states are replaced by: {}; eps {:g} nats.",
                                options.subject.name, options.fill, options.epsilon);
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
  options.subject.add_to(app);
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
  add_option(app, "--keep-rates", options.keep_rates,
             "Shares of positions at which all methods are compared")
      ->delimiter(',');
  add_option(app, "--epsilon", options.epsilon, "Divergence allowed, in nats")
      ->check(CLI::PositiveNumber);
  add_number(app, "--seeds", options.seeds,
             "toy: number of models; sst: number of runs per method");
  add_number(app, "--integral-steps", options.integral_steps, "Steps of integrated gradients");
  add_number(app, "--budget", options.budget, "Passes per example of exact and random search");
  add_number(app, "--probe-steps", options.probe_steps,
             "Steps of methods that are trained on data");
  add_number(app, "--sample-steps", options.sample_steps, "Steps of the methods per sample");
  add_number(app, "--threads", options.threads, "Number of threads; 0: one per core", 0);
  app.add_flag("--bfloat16", options.bfloat16,
               "All matrix products in bfloat16, where the processor has them: faster, less exact");
  app.add_option("--markdown", options.markdown, "File to write the tables to");
  app.add_option("--json", options.json, "File to write figures and curves to");
  app.add_option("--html", options.html, "File to write a page to");
  CLI11_PARSE(app, argc, argv);
  if (SubjectOptions& subject = options.subject; subject.smoke) {
    subject.steps = options.probe_steps = options.sample_steps = options.integral_steps = 2;
    subject.examples = options.budget = 8;
    options.threads = 1;
  }
  return reported("compare", [&] {
    use_threads(options.threads);
    const dm::Bfloat16Products fast(options.bfloat16);
    return run(options);
  });
}
