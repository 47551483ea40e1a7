// Every attribution method on tasks whose answers are known: which of the tokens, or of a graph's
// edges, does the label need?
//
//   ./examples/run tasks                          all tasks, 1 seed
//   ./examples/run tasks two_hop --seeds 3        one of them
//   ./examples/run tasks --json tasks.json
//
// Trains a model for each (seconds), then prints for each method and site D_KL and D_JS from the
// truth in nats (0 is perfect), and the share of true positions among as many highest scores (1 is
// perfect; uniform gives what chance has). Expect exact_search at the truth for the pointers
// (lookup, two_hop), diffmask_hidden near it for majority, and a precision near 1 of leave_one_out
// for all but majority and ba_shapes, where it is 0.85 and chance has 0.43.
#include <CLI/CLI.hpp>
#include <chrono>

#include "diffmask/attribution/methods.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "diffmask/zoo/tasks/task_run.hpp"
#include "program.hpp"

namespace dm = diffmask;
using nlohmann::json;

namespace {

// Those of the list, and LRP as it was published, which loses the relevance of biases.
std::vector<dm::Method> compared_methods() {
  std::vector<dm::Method> all = dm::methods();
  all.push_back({.name = "lrp, published", .build = [](const dm::MethodRequest& request) {
                   return std::make_unique<dm::Lrp>(request.model, request.options);
                 }});
  return all;
}

void run_method(const dm::Method& method, const std::string& task, const dm::TaskRun& run,
                json& rows) {
  const auto began = std::chrono::steady_clock::now();
  const json key = {{"task", task}, {"seed", run.seed}, {"method", method.name}};
  try {
    const dm::Attribution attribution = run.explain(method);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    for (const dm::SiteAnswer& s : run.score(attribution)) {
      json row = key;
      row["site"] = s.site;
      row["kl"] = number(s.answer.kl);
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
  bool smoke = false;
  for (const dm::Task& task : dm::tasks()) names.push_back(task.name);
  std::vector<std::string> chosen = names;
  app.add_option("tasks", chosen, "Names of tasks; by default all")->check(CLI::IsMember(names));
  add_option(app, "--seeds", seeds, "Number of seeds")->check(CLI::PositiveNumber);
  add_option(app, "--steps", steps, "Number of training steps of a fit")
      ->check(CLI::PositiveNumber);
  add_option(app, "--examples", examples, "Examples drawn; those with an answer are explained")
      ->check(CLI::PositiveNumber);
  add_option(app, "--threads", threads, "Number of threads")->check(CLI::PositiveNumber);
  app.add_option("--json", json_file, "File to write the rows to");
  app.add_flag("--smoke", smoke,
               "A quick run on one task, with a model of one step: its figures say nothing");
  CLI11_PARSE(app, argc, argv);
  return reported("tasks", [&] {
    use_threads(threads);
    dm::TaskRunOptions size{.examples = examples};
    if (smoke) {
      chosen = {"majority"};
      steps = 2;
      const auto stop = [](const dm::Progress&) { return dm::Action::stop; };
      size = {.examples = 10, .fitting = 200, .callbacks = {stop}};
    }
    json rows = json::array(), models = json::array();
    fmt::print("{:<10}  {:>4}  {:<20}  {:<15}  {:>7}  {:>7}  {:>9}  {:>7}\n", "task", "seed",
               "method", "site", "D_KL", "D_JS", "precision", "seconds");
    for (const std::string& name : chosen) {
      for (size.seed = 0; size.seed < seeds; ++size.seed) {
        dm::TaskRun run = dm::make_task_run(dm::task(name), size);
        run.steps = steps;
        models.push_back({{"task", name},
                          {"seed", run.seed},
                          {"accuracy", run.task.accuracy},
                          {"seconds", run.task.training.seconds},
                          {"explained", run.explained.data->size()}});
        fmt::print("{:<10}  {:>4}  model: accuracy {:.2f}%, trained in {:.1f} s\n", name, run.seed,
                   100 * run.task.accuracy, run.task.training.seconds);
        for (const dm::Method& method : compared_methods()) {
          if (run.suits(method.name)) run_method(method, name, run, rows);
        }
      }
    }
    write_json(json_file, {{"models", models}, {"rows", rows}});
    return 0;
  });
}
