// Every attribution method on tasks whose answers are known: which of the tokens, or of a graph's
// edges, does the label need?
//
//   ./examples/run tasks                          all tasks, 1 seed
//   ./examples/run tasks two_hop --seeds 3        one of them
//   ./examples/run tasks --json tasks.json
//
// Trains a model for each (seconds), then prints for each method and site D_KL and D_JS from the
// truth in nats (0 is perfect), and the share of true positions among as many highest scores (1 is
// perfect; uniform gives what chance has). Expect exact search at the truth for the pointers
// (lookup, two_hop), DiffMask hidden near it for majority, and a precision near 1 of leave-one-out
// for all but majority and ba_shapes, where it is 0.85 and chance has 0.43.
#include <CLI/CLI.hpp>
#include <chrono>
#include <nlohmann/json.hpp>

#include "diffmask/core/file.hpp"
#include "program.hpp"
#include "task_methods.hpp"

namespace dm = diffmask;
using nlohmann::json;

namespace {

void run_method(const TaskMethod& method, const std::string& task, const TaskRun& run, json& rows) {
  const auto began = std::chrono::steady_clock::now();
  const json key = {{"task", task}, {"seed", run.seed}, {"method", method.name}};
  try {
    const dm::Attribution attribution = method.explain(run);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    for (const TaskScore& s : score(run, attribution)) {
      json row = key;
      row["site"] = s.site;
      row["kl"] =
          std::isinf(s.answer.kl) ? json("inf") : json(s.answer.kl);  // JSON has no infinity
      row["js"] = s.answer.js;
      row["precision"] = s.precision;
      row["seconds"] = seconds.count();
      row["passes"] = attribution.passes;
      rows.push_back(row);
      fmt::print("{:<10}  {:>4}  {:<20}  {:<15}  {:>7.4f}  {:>7.4f}  {:>9.3f}  {:>7.2f}\n", task,
                 run.seed, method.name, s.site, s.answer.kl, s.answer.js, s.precision,
                 seconds.count());
    }
  } catch (const dm::Error& error) {
    // A method that has no rule for an operator of this model.
    rows.push_back(key);
    rows.back()["refused"] = error.what();
    fmt::print("{:<10}  {:>4}  {:<20}  refused: {}\n", task, run.seed, method.name, error.what());
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Attribution methods on tasks with known answers");
  std::vector<std::string> names;
  std::string json_file;
  uint64_t seeds = 1;
  int64_t steps = 600, examples = 200, threads = 1;
  for (const dm::Task& task : dm::tasks()) names.push_back(task.name);
  std::vector<std::string> chosen = names;
  app.add_option("tasks", chosen, "Which tasks")->check(CLI::IsMember(names));
  app.add_option("--seeds", seeds, "Number of seeds")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--steps", steps, "Steps of a fit")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--examples", examples, "Examples drawn; those with an answer are explained")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--threads", threads, "Threads")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--json", json_file, "Write the rows to this file");
  CLI11_PARSE(app, argc, argv);
  return reported("tasks", [&] {
    use_threads(threads);
    json rows = json::array(), models = json::array();
    fmt::print("{:<10}  {:>4}  {:<20}  {:<15}  {:>7}  {:>7}  {:>9}  {:>7}\n", "task", "seed",
               "method", "site", "D_KL", "D_JS", "precision", "seconds");
    for (const std::string& name : chosen) {
      for (uint64_t seed = 0; seed < seeds; ++seed) {
        TaskRun run = make_task_run(dm::task(name), seed, examples);
        run.steps = steps;
        models.push_back({{"task", name},
                          {"seed", seed},
                          {"accuracy", run.task.accuracy},
                          {"seconds", run.task.training.seconds},
                          {"explained", run.explained.data->size()}});
        fmt::print("{:<10}  {:>4}  model: accuracy {:.2f}%, trained in {:.1f} s\n", name, seed,
                   100 * run.task.accuracy, run.task.training.seconds);
        for (const TaskMethod& method : task_methods()) {
          if (method.fits(name)) run_method(method, name, run, rows);
        }
      }
    }
    if (!json_file.empty()) {
      dm::write_file(json_file, json{{"models", models}, {"rows", rows}}.dump(2) + "\n");
    }
    return 0;
  });
}
