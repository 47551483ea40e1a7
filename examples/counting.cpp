// The counting task of De Cao et al. 2020 (section 4.1): are there more n than m among the digits?
// What decides is known - the positions that hold n or m, all alike - so attributions can be
// scored.
//
//   ./examples/run counting                      own data and model, 1 seed
//   ./examples/run counting --seeds 5            5 of them
//   ./examples/run counting --data ../shared/data/toy    given data and model
//
// Prints D_KL and D_JS from the truth in nats (0 is perfect) for each method and site, for
// DiffMask with how well each fit keeps the prediction. On the given model expect DiffMask, hidden,
// at the encoder near 0.001 | 0.0004, and uniform (0.65 | 0.19) at the embedding, where the digits
// do not yet know the query.
#include <CLI/CLI.hpp>
#include <chrono>

#include "counting_methods.hpp"
#include "counting_task.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/metrics/known_answer.hpp"
#include "program.hpp"

namespace dm = diffmask;
using nlohmann::json;

namespace {

struct Method {
  std::string name;
  dm::ExplainerOptions explainer;
  dm::TrainerOptions trainer;
};

std::vector<Method> methods(uint64_t seed, int64_t steps) {
  const dm::ExplainerOptions explainer = counting_explainer();
  const dm::TrainerOptions trainer = counting_recipe(seed, steps);
  Method hidden{"DiffMask hidden", explainer, trainer};
  Method input{"DiffMask input", explainer, trainer};
  input.explainer.masking = dm::Masking::input;
  Method per_sample{"DiffMask per-sample", explainer, trainer};
  per_sample.explainer.per_sample = true;
  per_sample.trainer.batches.batch_size = 1000;
  per_sample.trainer.gate_rate = 0.1;
  per_sample.trainer.steps = std::max<int64_t>(steps / 8, 1);  // each reads all examples
  // The same by REINFORCE (Williams 1992), with gates that are 0 or 1.
  Method reinforce{"DiffMask REINFORCE", hidden.explainer, hidden.trainer};
  Method reinforce_per_sample{"DiffMask REINFORCE, p.-s.", per_sample.explainer,
                              per_sample.trainer};
  for (Method* method : {&reinforce, &reinforce_per_sample}) {
    method->explainer.gate_kind = dm::GateKind::bernoulli;
  }
  return {hidden, input, per_sample, reinforce, reinforce_per_sample};
}

struct Report {
  json rows = json::array(), fits = json::array();

  void add(const std::string& method, const std::string& site, uint64_t seed,
           const dm::KnownAnswer& answer) {
    rows.push_back({{"method", method}, {"site", site}, {"seed", seed}});
    // JSON has no infinity.
    const auto number = [](double x) { return std::isinf(x) ? json("inf") : json(x); };
    rows.back()["kl"] = number(answer.kl);
    rows.back()["js"] = number(answer.js);
    fmt::print("{:<26}  {:<10}  {:>4}  {:>7.4f}  {:>7.4f}\n", method, site, seed, answer.kl,
               answer.js);
    std::fflush(stdout);
  }
};

void score_controls(const dm::CountingData& data, uint64_t seed, Report& report) {
  const at::Tensor mask = data.dataset().batch(dm::iota(data.size())).mask;
  const at::Tensor truth = data.relevant();
  report.add("uniform", "input", seed, dm::known_answer(truth, mask, mask));
  // One token of the winning digit; on a tie none can win, and m, whose share is not less, is
  // taken.
  const at::Tensor winner = data.queries.gather(1, (1 - data.labels).unsqueeze(1));
  const at::Tensor holds = data.digits.eq(winner).logical_and(mask).to(at::kLong);
  const at::Tensor first = holds.cumsum(1).eq(1).logical_and(holds.gt(0));
  report.add("winner-token rule", "input", seed, dm::known_answer(truth, first, mask));
  const at::Tensor random = at::rand(mask.sizes(), dm::make_generator(dm::derive_seed(seed, 101)));
  report.add("random", "input", seed, dm::known_answer(truth, random, mask));
}

void score_others(const Task& task, uint64_t seed, Report& report) {
  const auto training = task.training.dataset(), validation = task.validation.dataset();
  const dm::Batch batch = validation.batch(dm::iota(validation.size()));
  for (const auto& [name, method] : counting_methods(dm::staged(task.net), training, seed)) {
    const auto began = std::chrono::steady_clock::now();
    const dm::Attribution attribution = method->attribute(batch);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    for (size_t depth = 0; depth < attribution.sites.size(); ++depth) {
      report.add(name, attribution.sites[depth], seed,
                 dm::known_answer(task.validation.relevant(),
                                  attribution.scores.select(2, depth).abs(), batch.mask));
    }
    fmt::print("    {:.1f} s, {} rows through the model\n", seconds.count(), attribution.passes);
  }
}

void score_method(const Method& method, const Task& task, uint64_t seed, Report& report) {
  const auto model = dm::staged(task.net);
  const auto training = task.training.dataset(), validation = task.validation.dataset();
  dm::DiffMask diffmask(model, method.explainer);
  const std::vector<dm::Callback> callbacks = {dm::progress_bar(method.name)};
  // The validation rows are for the figures; what is selected on are training rows held out.
  const auto summary = method.explainer.per_sample
                           ? diffmask.fit(validation, method.trainer, callbacks)
                           : diffmask.fit(training, method.trainer, callbacks);
  const dm::Batch batch = validation.batch(dm::iota(validation.size()));
  const dm::Attribution attribution = diffmask.attribute(batch);
  dm::RecordedBatches recorded(*model, validation, attribution.sites, {.batch_size = 1000});
  const auto evaluation = dm::evaluate(*model, diffmask.explainer(), recorded,
                                       method.trainer.divergence, method.trainer.epsilon);
  const at::Tensor original = model->record(batch.inputs).output();
  json sites = json::array();
  for (size_t depth = 0; depth < evaluation.size(); ++depth) {
    const dm::DepthEvaluation& e = evaluation[depth];
    report.add(method.name, attribution.sites[depth], seed,
               dm::known_answer(task.validation.relevant(), attribution.scores.select(2, depth),
                                batch.mask));
    const at::Tensor hard = attribution.keep.select(2, depth).logical_or(batch.mask.logical_not());
    const at::Tensor output = diffmask.masked_output(batch, depth, hard.to(at::kFloat));
    sites.push_back({{"site", attribution.sites[depth]},
                     {"divergence", e.divergence},
                     {"keep", e.keep},
                     {"feasible", e.divergence <= method.trainer.epsilon},
                     {"hard_divergence", e.hard_divergence},
                     {"hard_keep", e.hard_keep},
                     {"agreement", accuracy(output, original.gt(0))}});
    fmt::print("    D {:.4f}, hard {:.4f}; kept {:.1f}%, hard {:.1f}%; agreement {:.1f}%\n",
               e.divergence, e.hard_divergence, 100 * e.keep, 100 * e.hard_keep,
               100 * sites.back()["agreement"].get<double>());
  }
  fmt::print("    {}\n", summary.brief_report());
  report.fits.push_back({{"seed", seed},
                         {"masking", method.name.substr(9)},
                         {"seconds", summary.seconds},
                         {"steps", summary.steps},
                         {"sites", sites}});
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("DiffMask on the counting task: attributions against the known answer");
  std::string folder, json_file;
  uint64_t seeds = 1;
  int64_t steps = 2000, threads = 1;
  app.add_option("--data", folder,
                 "Folder with examples.csv and model.safetensors, in place of own ones")
      ->check(CLI::ExistingDirectory);
  app.add_option("--seeds", seeds, "Number of seeds")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--steps", steps, "Training steps")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--threads", threads, "Threads")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--json", json_file, "Write rows and fits to this file");
  CLI11_PARSE(app, argc, argv);
  return reported("counting", [&] {
    use_threads(threads);
    Report report;
    fmt::print("{:<26}  {:<10}  {:>4}  {:>7}  {:>7}\n", "method", "site", "seed", "D_KL", "D_JS");
    for (uint64_t seed = 0; seed < seeds; ++seed) {
      const Task task = folder.empty() ? own_task(seed) : given_task(folder);
      const auto validation = task.validation.dataset();
      fmt::print("model's accuracy {:.2f}%\n",
                 100 * accuracy(dm::predict(*task.net, forward_of(task.net), validation),
                                validation.labels()));
      score_controls(task.validation, seed, report);
      score_others(task, seed, report);
      for (const Method& method : methods(seed, steps)) score_method(method, task, seed, report);
    }
    if (!json_file.empty()) {
      dm::write_file(json_file, json{{"rows", report.rows}, {"fits", report.fits}}.dump(2) + "\n");
    }
    return 0;
  });
}
