// The counting task of De Cao et al. 2020 (section 4.1): are there more n than m among the digits?
// What decides is known - the positions that hold n or m, all alike - so attributions can be
// scored.
//
//   ./examples/run counting                      own data and model, 1 seed
//   ./examples/run counting --seeds 5            5 of them
//   ./examples/run counting --data ../shared/data/toy    given data and model
//
// Prints D_KL and D_JS from the truth in nats (0 is perfect) for each method and site, and for
// DiffMask how well each fit keeps the prediction. On the given model expect diffmask_hidden at the
// encoder near 0.001 | 0.0004, and uniform (0.65 | 0.19) at the embedding, where the digits do not
// yet know the query.
#include <ATen/ATen.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/attribution/learned/infomask.hpp"
#include "diffmask/attribution/learned/information_bottleneck.hpp"
#include "diffmask/attribution/learned/noise_tolerance.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/known_answer.hpp"
#include "diffmask/zoo/tasks/counting_fit.hpp"
#include "program.hpp"

namespace dm = diffmask;
using nlohmann::json;

namespace {

struct Options {
  std::string data, json;
  uint64_t seeds = 1;
  int64_t steps = 2000, threads = 1;
  bool smoke = false;
};

// What one seed's methods explain. Scores are read without their sign.
struct Run {
  const Options& options;
  uint64_t seed;
  dm::CountingFit task;
  json& report;
  std::shared_ptr<const dm::FrozenModel> model = dm::staged(task.net);
  std::shared_ptr<const dm::Dataset> training =
      std::make_shared<dm::PaddedDataset>(task.training.dataset());
  dm::PaddedDataset validation = task.validation.dataset();
  dm::Batch batch = validation.batch(dm::iota(validation.size()));
  at::Tensor original = model->record(batch.inputs).output();

  void score(const std::string& method, const std::string& site, const at::Tensor& scores) const {
    const auto answer = dm::known_answer(task.validation.relevant(), scores.abs(), batch.mask);
    // JSON has no infinity.
    const auto number = [](double x) { return std::isinf(x) ? json("inf") : json(x); };
    report["rows"].push_back({{"method", method}, {"site", site}, {"seed", seed}});
    report["rows"].back().update({{"kl", number(answer.kl)}, {"js", number(answer.js)}});
    fmt::print("{:<26}  {:<10}  {:>4}  {:>7.4f}  {:>7.4f}\n", method, site, seed, answer.kl,
               answer.js);
    std::fflush(stdout);
  }

  void score(const std::string& name, const dm::Attributor& method) const {
    const dm::Attribution attribution = method.attribute(batch);
    for (size_t depth = 0; depth < attribution.sites.size(); ++depth) {
      score(name, attribution.sites[depth], attribution.scores.select(2, depth));
    }
    fmt::print("    {} rows through the model\n", attribution.passes);
  }
};

void score_controls(const Run& run) {
  const dm::CountingData& data = run.task.validation;
  run.score("uniform", "input", run.batch.mask.to(at::kFloat));
  // One token of the winning digit; on a tie none can win, and m, whose share is not less, is
  // taken.
  const at::Tensor winner = data.queries.gather(1, (1 - data.labels).unsqueeze(1));
  const at::Tensor holds = data.digits.eq(winner).logical_and(run.batch.mask).to(at::kFloat);
  run.score("winner-token rule", "input", holds.cumsum(1).eq(1) * holds);
  const at::Generator generator = dm::make_generator(dm::derive_seed(run.seed, 101));
  run.score("random", "input", at::rand(holds.sizes(), generator));
}

void score_listed(const Run& run) {
  const dm::AttributionOptions zero{.target = dm::target::predicted_logit,
                                    .passes = {.max_batch = 4096}};
  dm::AttributionOptions mean = zero;
  mean.fill = dm::mean_fill(*run.model, zero, *run.training);
  dm::MethodSettings settings{.seed = run.seed,
                              .random_passes = 100,
                              .divergence = dm::divergence::bernoulli,
                              .training_steps = run.options.smoke ? 5 : 0,
                              .batches = {.batch_size = 128},
                              .example_steps = run.options.smoke ? 2 : 0,
                              .draws = 2};  // a thousand rows are explained, at two sites
  for (const char* name : {"gradient", "gradient_x_input"}) {
    run.score(name, *dm::method(name).make(run.model, zero));
  }
  for (const std::string name : {"integrated_gradients", "deeplift", "leave_one_out"}) {
    run.score(name + ", zero", *dm::method(name).make(run.model, zero));
    run.score(name + ", mean", *dm::method(name).make(run.model, mean));
  }
  // On most rows with the answer "no" nothing has to be kept: what that empty set says of the
  // positions is a matter of policy.
  using Exact = dm::ExactSearchOptions;
  for (const auto& [name, exact] :
       {std::pair{"uniform", Exact{.empty = Exact::Empty::uniform}},
        std::pair{"not empty", Exact{.empty = Exact::Empty::refused}},
        std::pair{"any set", Exact{.empty = Exact::Empty::uniform, .ties = Exact::Ties::all}},
        std::pair{"one set", Exact{.empty = Exact::Empty::uniform, .ties = Exact::Ties::best}}}) {
    run.score(fmt::format("exact_search, {}", name), dm::ExactSearch(run.model, mean, exact));
  }
  auto published = dm::InformationBottleneckOptions::published();
  published.seed = run.seed;
  dm::InformationBottleneck bottleneck(run.model, zero, published);
  bottleneck.fit(*run.training);
  run.score("bottleneck, published", bottleneck);
  auto tolerance = dm::NoiseToleranceOptions::published();
  tolerance.seed = run.seed;
  run.score("noise_tolerance, published", dm::NoiseTolerance(run.model, zero, tolerance));
  for (const char* name : {"bottleneck", "bottleneck_read_out", "noise_tolerance"}) {
    run.score(name, *dm::method(name).make(run.model, zero, settings, run.training));
  }
  run.score("beam_search", *dm::method("beam_search").make(run.model, mean, settings));
  settings.beta = 0.3;
  run.score("infomask", *dm::method("infomask").make(run.model, mean, settings, run.training));
  settings.seed = dm::derive_seed(run.seed, 102);
  run.score("random_search", *dm::method("random_search").make(run.model, mean, settings));
}

void score_diffmask(const Run& run, const std::string& name, const dm::ExplainerOptions& explainer,
                    dm::TrainerOptions trainer) {
  trainer.callbacks = {dm::progress_bar(name)};
  dm::DiffMask method(run.model, explainer);
  // The validation rows are for the figures; what is selected on are training rows held out.
  const bool per_sample = explainer.probe.per_sample;
  const auto summary = method.fit(per_sample ? run.validation : *run.training, trainer);
  run.score(name, method);
  const dm::Attribution attribution = method.attribute(run.batch);
  dm::RecordedBatches recorded(*run.model, run.validation, attribution.sites, {.batch_size = 1000});
  json sites = json::array();
  for (const dm::DepthEvaluation& e : dm::evaluate(*run.model, method.explainer(), recorded,
                                                   trainer.divergence, trainer.epsilon)) {
    const auto depth = static_cast<int64_t>(sites.size());
    const at::Tensor hard = attribution.keep.select(2, depth).logical_or(~run.batch.mask);
    const at::Tensor output = method.masked_output(run.batch, depth, hard.to(at::kFloat));
    const at::Tensor agrees = output.gt(0).eq(run.original.gt(0));
    sites.push_back({{"site", attribution.sites[sites.size()]},
                     {"divergence", e.divergence},
                     {"keep", e.keep},
                     {"feasible", e.divergence <= trainer.epsilon},
                     {"hard_divergence", e.hard_divergence},
                     {"hard_keep", e.hard_keep},
                     {"agreement", agrees.to(at::kDouble).mean().item<double>()}});
    fmt::print("    {}: D {:.4f}, hard {:.4f}; kept {:.1f}%, hard {:.1f}%; agreement {:.1f}%\n",
               attribution.sites[sites.size() - 1], e.divergence, e.hard_divergence, 100 * e.keep,
               100 * e.hard_keep, 100 * sites.back()["agreement"].get<double>());
  }
  fmt::print("    {}\n", summary.brief_report());
  run.report["fits"].push_back({{"seed", run.seed},
                                {"method", name},
                                {"seconds", summary.seconds},
                                {"steps", summary.steps},
                                {"sites", sites}});
}

void score_diffmasks(const Run& run) {
  auto hidden = dm::counting_explainer(dm::Masking::hidden);
  auto per_sample = hidden;
  per_sample.probe = dm::free_logits();
  auto trainer = dm::counting_training(run.seed, run.options.steps);
  if (run.options.smoke) trainer.recipe.warm_up = 2;
  dm::TrainerOptions few = trainer;
  few.batches.batch_size = 1000;
  few.recipe.gate_rate = 0.1;
  few.steps = std::max<int64_t>(trainer.steps / 8, 1);  // each reads all examples
  score_diffmask(run, "diffmask_hidden", hidden, trainer);
  score_diffmask(run, "diffmask_input", dm::counting_explainer(dm::Masking::input), trainer);
  score_diffmask(run, "diffmask_per_sample", per_sample, few);
  // The same by REINFORCE (Williams 1992), with gates that are 0 or 1.
  hidden.gate = per_sample.gate = std::make_shared<dm::Bernoulli>();
  score_diffmask(run, "reinforce", hidden, trainer);
  score_diffmask(run, "reinforce_per_sample", per_sample, few);
}

int run(const Options& options) {
  use_threads(options.threads);
  json report{{"rows", json::array()}, {"fits", json::array()}};
  fmt::print("{:<26}  {:<10}  {:>4}  {:>7}  {:>7}\n", "method", "site", "seed", "D_KL", "D_JS");
  for (uint64_t seed = 0; seed < options.seeds; ++seed) {
    const dm::CountingFitOptions size =
        options.smoke ? dm::CountingFitOptions{.training = 600, .validation = 30, .epochs = 1}
                      : dm::CountingFitOptions{};
    const Run one{options, seed,
                  options.data.empty() ? dm::fit_counting(seed, size, {dm::progress_bar("model")})
                                       : dm::read_counting_fit(options.data),
                  report};
    fmt::print("model's accuracy {:.2f}%\n", 100 * one.task.accuracy());
    score_controls(one);
    score_listed(one);
    score_diffmasks(one);
  }
  if (!options.json.empty()) dm::write_file(options.json, report.dump(2) + "\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Attribution methods on the counting task, against the known answer");
  Options options;
  app.add_option("--data", options.data,
                 "Folder with examples.csv and model.safetensors, in place of own ones")
      ->check(CLI::ExistingDirectory);
  add_option(app, "--seeds", options.seeds, "Number of seeds")->check(CLI::PositiveNumber);
  add_option(app, "--steps", options.steps, "Number of training steps of DiffMask")
      ->check(CLI::PositiveNumber);
  add_option(app, "--threads", options.threads, "Number of threads")->check(CLI::PositiveNumber);
  app.add_option("--json", options.json, "File to write rows and fits to");
  app.add_flag("--smoke", options.smoke, "A quick run of a few steps: its figures say nothing");
  CLI11_PARSE(app, argc, argv);
  if (options.smoke) options.steps = 3;
  return reported("counting", [&] { return run(options); });
}
