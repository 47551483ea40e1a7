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
#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/attribution/learned/information_bottleneck.hpp"
#include "diffmask/attribution/learned/noise_tolerance.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/metrics/known_answer.hpp"
#include "diffmask/metrics/mask_experiment.hpp"
#include "diffmask/zoo/tasks/counting_fit.hpp"
#include "program.hpp"

namespace dm = diffmask;
using nlohmann::json;

namespace {

// What one seed's methods explain.
struct Run : dm::Subject {
  uint64_t seed;
  bool smoke;
  json& report;

  void score(const std::string& name, const dm::Attributor& method) const {
    const auto attribution = method.attribute(data->batch(dm::iota(data->size())));
    for (const auto& at : dm::site_answers(truth, attribution)) {
      report["rows"].push_back({{"method", name},
                                {"site", at.site},
                                {"seed", seed},
                                {"kl", number(at.answer.kl)},
                                {"js", at.answer.js}});
      fmt::print("{:<26}  {:<10}  {:>4}  {:>7.4f}  {:>7.4f}\n", name, at.site, seed, at.answer.kl,
                 at.answer.js);
    }
    fmt::print("    {} rows through the model\n", attribution.passes);
  }
};

void score_methods(const Run& run) {
  const dm::AttributionOptions zero{.target = dm::target::predicted_logit,
                                    .passes = {.max_batch = 4096}};
  dm::AttributionOptions mean = zero;
  mean.fill = dm::mean_fill(*run.model, zero, *run.training);
  const auto listed = [&](const std::string& row, const std::string& method,
                          const dm::AttributionOptions& options) {
    auto settings = dm::counting_settings(method, run.seed);
    if (run.smoke) settings.training_steps = 5, settings.example_steps = 2;
    run.score(row, *dm::method(method).make(run.model, options, settings, run.training));
  };
  for (const char* name : {"uniform", "random", "gradient", "gradient_x_input", "bottleneck",
                           "bottleneck_read_out", "noise_tolerance"}) {
    listed(name, name, zero);
  }
  for (const std::string name : {"integrated_gradients", "deeplift", "leave_one_out"}) {
    listed(name + ", zero", name, zero);
    listed(name + ", mean", name, mean);
  }
  for (const char* name : {"beam_search", "infomask", "random_search"}) listed(name, name, mean);
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
}

void score_diffmask(const Run& run, const std::string& name, const dm::ExplainerOptions& explainer,
                    dm::TrainerOptions trainer) {
  trainer.callbacks = {dm::progress_bar(name)};
  dm::DiffMask method(run.model, explainer);
  // The validation rows are for the figures; what is selected on are training rows held out.
  const auto summary = method.fit(explainer.probe.per_sample ? *run.data : *run.training, trainer);
  run.score(name, method);
  const auto found = method.evaluate(*run.data, trainer.divergence, trainer.epsilon);
  const auto masks = dm::score_masks(*run.model, *run.data, {{name, method, trainer.epsilon}},
                                     {.divergence = trainer.divergence, .controls = {}});
  json fit = {{"seed", run.seed}, {"method", name}, {"seconds", summary.seconds}};
  fit["masks"] = json::parse(masks.json());
  for (size_t i = 0; i < found.size(); ++i) {
    const auto& [site, mask, controls] = masks.gatings[0].depths[i];
    fit["expected_divergence"][site] = found[i].divergence;
    fmt::print("    {}: D {:.4f}, hard {:.4f}; kept {:.1f}%, hard {:.1f}%; agreement {:.1f}%\n",
               site, found[i].divergence, mask.divergence, 100 * found[i].keep,
               100 * found[i].hard_keep, 100 * masks.figure(mask, "agreement"));
  }
  fmt::print("    {}\n", summary.brief_report());
  run.report["fits"].push_back(fit);
}

void score_diffmasks(const Run& run) {
  auto hidden = dm::counting_explainer(dm::Masking::hidden), per_sample = hidden;
  per_sample.probe = dm::free_logits();
  auto trainer = dm::counting_training(run.seed);
  if (run.smoke) trainer.steps = 3, trainer.recipe.warm_up = 2;
  auto few = trainer;  // each step reads all examples
  few.batches.batch_size = 1000;
  few.recipe.gate_rate = 0.1;
  few.steps = std::max<int64_t>(trainer.steps / 8, 1);
  score_diffmask(run, "diffmask_hidden", hidden, trainer);
  score_diffmask(run, "diffmask_input", dm::counting_explainer(dm::Masking::input), trainer);
  score_diffmask(run, "diffmask_per_sample", per_sample, few);
  // The same by REINFORCE (Williams 1992), with gates that are 0 or 1.
  hidden.gate = per_sample.gate = std::make_shared<dm::Bernoulli>();
  score_diffmask(run, "reinforce", hidden, trainer);
  score_diffmask(run, "reinforce_per_sample", per_sample, few);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Attribution methods on the counting task, against the known answer");
  std::string data, json_file;
  int64_t seeds = 1;
  bool smoke = false;
  app.add_option("--data", data,
                 "Folder with examples.csv and model.safetensors, in place of own ones")
      ->check(CLI::ExistingDirectory);
  add_number(app, "--seeds", seeds, "Number of seeds");
  app.add_option("--json", json_file, "File to write rows and fits to");
  app.add_flag("--smoke", smoke, "A quick run of a few steps: its figures say nothing");
  CLI11_PARSE(app, argc, argv);
  return reported("counting", [&] {
    use_threads(1);
    json report;
    dm::CountingFitOptions size;
    if (smoke) size = {.training = 600, .validation = 30, .epochs = 1};
    fmt::print("{:<26}  {:<10}  {:>4}  {:>7}  {:>7}\n", "method", "site", "seed", "D_KL", "D_JS");
    for (int64_t seed = 0; seed < seeds; ++seed) {
      const auto task = data.empty() ? dm::fit_counting(seed, size, {dm::progress_bar("model")})
                                     : dm::read_counting_fit(data);
      fmt::print("model's accuracy {:.2f}%\n", 100 * task.accuracy());
      const Run run{task.subject(seed), static_cast<uint64_t>(seed), smoke, report};
      score_methods(run);
      score_diffmasks(run);
    }
    write_json(json_file, report);
    return 0;
  });
}
