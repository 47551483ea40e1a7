#include "cli/compare.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/progress.hpp"
#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/mask/arranged.hpp"
#include "diffmask/report/comparison_report.hpp"

namespace diffmask::cli {
void add_compare(CLI::App& command, ModelOptions& model, CompareOptions& options) {
  model.add_to(command);
  model.add_inputs_and_mask(command);
  command
      .add_option("--methods", options.methods,
                  "Names of methods, beside uniform and random; by default all that need no "
                  "training and no fit to examples")
      ->delimiter(',')
      ->check(CLI::IsMember(method_names()));
  command.add_option("--explainer", options.explainers, "Files of trained DiffMask explainers")
      ->check(CLI::ExistingFile);
  command
      .add_option("--baseline", options.baseline,
                  "What replaces a state: zero, mean, other (another example's), or a safetensors "
                  "file with a tensor for each site")
      ->capture_default_str();
  command
      .add_option("--keep-rates", options.keep_rates,
                  "Shares of positions at which all methods are compared")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--epsilon", options.epsilon, "Divergence allowed, in nats")
      ->capture_default_str();
  command.add_option("--steps", options.steps, "Number of steps of integrated gradients")
      ->capture_default_str();
  command.add_option("--beam", options.beam, "Number of sets that beam search keeps")
      ->capture_default_str();
  command
      .add_option("--budget", options.budget, "Passes per example of exact and of random search")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  options.outputs.add_to(command);
  options.learning.add_to(command);
  command.add_option("--seeds", options.seeds, "Number of runs per method")->capture_default_str();
  command.add_option("--seed", options.seed, "Seed of the first run")->capture_default_str();
  command.add_option("--batch-size", options.batch_size, "Examples per batch")
      ->capture_default_str();
  command.add_option("--max-batch", options.max_batch, "Rows per pass")->capture_default_str();
  command.add_option("--markdown", options.markdown, "File to write the tables to");
  command.add_option("--json-file", options.json, "File to write figures and curves to");
  command.add_option("--html", options.html, "File to write a page to");
}

Comparison compare(const std::shared_ptr<const Program>& model, const Inputs& inputs,
                   const at::Tensor& mask, std::vector<std::string> sites,
                   const CompareOptions& options) {
  std::vector<ComparedMethod> explainers;
  for (const std::string& path : options.explainers) {
    auto loaded = std::make_shared<DiffMask>(DiffMask::load(path, model));
    const std::string name =
        fmt::format("diffmask ({})", std::filesystem::path(path).stem().string());
    explainers.push_back(compared_explainer(name, model, std::move(loaded)));
  }
  MethodSettings settings{.steps = options.steps,
                          .beam = options.beam,
                          .max_passes = options.budget,
                          .random_passes = options.budget,
                          .epsilon = options.epsilon,
                          .training_steps = options.learning.training_steps,
                          .example_steps = options.learning.example_steps};
  const Recording recording = model->record(moved(inputs, *model), sites);
  const Layouts layouts = layouts_of(*model, recording, sites, options.outputs);
  std::erase_if(sites, [&](const std::string& site) { return !layouts.contains(site); });
  sites_without_mask(mask, recording, sites, layouts);
  const ProgressLine progress;
  Comparison all;
  size_t done = 0;
  for (const std::string& site : sites) {
    progress.show(done++, sites.size(), site);
    const Positions& positions = layouts.at(site);
    const Explained what =
        compared(arranged_output(recording.output(), positions.unbatched()), options.outputs);
    settings.divergence = what.divergence;
    settings.criterion = what.criterion;
    AttributionOptions common;
    common.positions = {positions};
    common.target = what.target;
    common.fill = fill_of(options.baseline, options.seed, layouts);
    common.passes.max_batch = options.max_batch;
    const ComparisonOptions measures{.sites = {site},
                                     .faithfulness = {.positions = common.positions[0],
                                                      .fill = common.fill,
                                                      .log_probability = what.log_probability,
                                                      .target = what.target,
                                                      .divergence = what.divergence,
                                                      .criterion = what.criterion,
                                                      .passes = common.passes},
                                     .epsilon = options.epsilon,
                                     .keep_rates = options.keep_rates,
                                     .seeds = options.seeds,
                                     .seed = options.seed,
                                     .batch_size = options.batch_size};
    const auto rows =
        std::make_shared<BatchRows>(batch_at(*model, recording, mask, site, positions));
    std::vector<ComparedMethod> methods =
        compared_methods(options.methods.empty() ? options.methods : with_controls(options.methods),
                         common, settings, rows);
    methods.insert(methods.end(), explainers.begin(), explainers.end());
    all.add(diffmask::compare(model, *rows, methods, measures));
  }
  return all;
}

void write_comparison(const Comparison& comparison, const std::string& title,
                      const CompareOptions& options) {
  if (!options.markdown.empty()) write_file(options.markdown, markdown_comparison(comparison));
  if (!options.json.empty()) write_file(options.json, json_comparison(comparison));
  if (options.html.empty()) return;
  write_file(options.html,
             html_comparison(title,
                             fmt::format("States are replaced by: {}. eps is {:g} nats.",
                                         options.baseline, options.epsilon),
                             comparison));
}

int run_compare(const ModelOptions& options, const CompareOptions& comparison) {
  const Safetensors file = load_safetensors(options.inputs);
  const Inputs inputs = inputs_of(file);
  const auto model =
      comparison.outputs.chosen(options).load(static_cast<int64_t>(inputs.size()), comparison.seed);
  const Comparison result = compare(model, inputs, mask_of(file, options.mask),
                                    options.explained_sites(*model, inputs), comparison);
  write_comparison(result, options.model, comparison);
  fmt::print("{}", options.json ? json_comparison(result) : markdown_comparison(result));
  return 0;
}

}  // namespace diffmask::cli
