#include "cli/attribute.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>

#include "cli/progress.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/train/callback.hpp"
#include "diffmask/version.hpp"

namespace diffmask::cli {
namespace {

at::Tensor everywhere(const Positions& positions, const at::Tensor& state) {
  const at::Tensor features = positions.features(state);
  return at::ones({features.size(0), features.size(1)}, at::kBool);
}

Target target_of(const at::Tensor& output, int64_t index) {
  if (index >= 0) return target::class_index(index);
  const bool one_number = output.dim() == 1 || (output.dim() == 2 && output.size(1) == 1);
  return one_number ? Target(target::scalar) : Target(target::predicted);
}

// What one attribution explains: sites of the same positions, where that is one walk for all of
// them; else each alone, so that what is drawn at a site does not depend on the others.
std::vector<std::vector<std::string>> groups_of(const Recording& recording,
                                                const std::vector<std::string>& sites,
                                                const Method& method) {
  std::vector<std::vector<std::string>> groups;
  std::map<std::vector<int64_t>, size_t> known;  // by the mask's shape
  for (const std::string& site : sites) {
    const at::Tensor& state = recording.state(site);
    const auto shape = everywhere(positions_of(state), state).sizes().vec();
    const auto [found, is_new] = known.try_emplace(shape, groups.size());
    if (is_new || !method.one_walk) {
      groups.push_back({site});
    } else {
      groups[found->second].push_back(site);
    }
  }
  return groups;
}

}  // namespace

void LearningOptions::add_to(CLI::App& command) {
  command
      .add_option(
          "--training-steps", training_steps,
          "Steps of methods that are trained. They are trained on these very inputs. 0: the "
          "method's default, 1000 or more")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--example-steps", example_steps,
                  "Steps of methods that are fitted to each batch of examples. 0: the method's "
                  "default, 100 or more")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

void add_attribute(CLI::App& command, ModelOptions& model, AttributeOptions& options) {
  model.add_to(command);
  command.add_option("--method", options.method, "Name of the method")
      ->required()
      ->check(CLI::IsMember(method_names()));
  model.add_inputs_and_mask(command);
  command
      .add_option("--out", options.out,
                  "Safetensors file to write: scores (B, positions) for each site")
      ->required();
  command
      .add_option(
          "--target", options.target,
          "Class to explain; by default the predicted one. Methods that minimise a "
          "divergence (bottlenecks, noise_tolerance, infomask, diffmask, reinforce) explain "
          "the whole output")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--baseline", options.baseline,
                  "What replaces a state: zero, mean (of these inputs' states), or a safetensors "
                  "file with a tensor for each site")
      ->capture_default_str();
  command.add_flag("--features", options.features,
                   "Write scores (B, ..., features), before they are summed over features");
  command.add_option("--steps", options.steps, "Number of steps of integrated gradients")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--beam", options.beam, "Number of sets that beam search keeps")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--max-batch", options.max_batch, "Rows per pass")->capture_default_str();
  command
      .add_option("--memory", options.memory_mb, "Memory that a pass may take, in MB; 0: no limit")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 32))
      ->capture_default_str();
  command.add_option("--seed", options.seed, "Seed of everything that is drawn")
      ->capture_default_str();
  command
      .add_option("--epsilon", options.epsilon,
                  "Divergence that diffmask and reinforce allow, in nats")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  options.learning.add_to(command);
}

Fill fill_of(const std::string& baseline, uint64_t seed) {
  if (baseline == "other") return fill::other_example(make_generator(seed));
  if (baseline == "zero") return fill::zero;
  if (baseline == "mean") {
    return [](const std::string&, const at::Tensor& state) {
      const Positions positions = positions_of(state);
      const at::Tensor mask = everywhere(positions, state);
      return positions.expand_vector(positions.channel_values(state, mask).mean(0));
    };
  }
  require(std::filesystem::exists(baseline), "--baseline",
          "zero, mean, other or a safetensors file", fmt::format("'{}'", baseline));
  return fill::given(load_safetensors(baseline).tensors);
}

Positions positions_of(const at::Tensor& state) {
  using Layout = Positions::Layout;
  return {state.dim() == 2 ? Layout::units : state.dim() == 4 ? Layout::image : Layout::sequence};
}

Batch batch_at(const Inputs& inputs, const at::Tensor& mask, const at::Tensor& state,
               const Positions& positions) {
  const at::Tensor all = everywhere(positions, state);
  const bool fits = mask.defined() && mask.sizes() == all.sizes();
  return {inputs, fits ? mask : all, at::arange(all.size(0), at::kLong), {}};
}

std::vector<std::string> sites_without_mask(const at::Tensor& mask, const Recording& recording,
                                            const std::vector<std::string>& sites) {
  std::vector<std::string> others;
  std::map<std::string, std::string> shapes;  // each with the first site that has it
  for (const std::string& site : sites) {
    const at::Tensor& state = recording.state(site);
    const auto shape = everywhere(positions_of(state), state).sizes();
    if (!mask.defined() || mask.sizes() == shape) continue;
    others.push_back(site);
    shapes.emplace(shape_string(shape), site);
  }
  if (others.empty()) return others;
  if (others.size() == sites.size()) {
    std::vector<std::string> known;
    for (const auto& [shape, site] : shapes) known.push_back(fmt::format("{} at {}", shape, site));
    throw ArgumentError(
        "mask", fmt::format("of the shape of a site's positions, {}", fmt::join(known, ", ")),
        shape_string(mask.sizes()));
  }
  fmt::print(stderr, "diffmask: the mask {} is not of the positions of, and not used at: {}\n",
             shape_string(mask.sizes()), fmt::join(others, ", "));
  return others;
}

nlohmann::json provenance(const Program& model, const std::vector<std::string>& sites,
                          const ModelOptions& files, const AttributeOptions& options) {
  return {{"diffmask", version()},
          {"model", model.fingerprint()},
          {"model_file", files.model},
          {"output", files.output},
          {"inputs_file", files.inputs},
          {"mask", files.mask.empty() ? "mask" : files.mask},
          {"sites", sites},
          {"method", options.method},
          {"target", options.target >= 0 ? fmt::format("{}", options.target) : "predicted"},
          {"baseline", options.baseline},
          {"seed", options.seed}};
}

namespace {

MethodSettings settings_of(const AttributeOptions& options) {
  std::vector<Callback> callbacks;
  if (has_terminal()) callbacks.push_back(progress_bar(options.method));
  return {.seed = options.seed,
          .steps = options.steps,
          .beam = options.beam,
          .epsilon = options.epsilon,
          .training_steps = options.learning.training_steps,
          .example_steps = options.learning.example_steps,
          .callbacks = std::move(callbacks)};
}

// A site's scores as they are written, and its row of the summary.
std::pair<at::Tensor, nlohmann::json> result_at(const Attribution& result, size_t depth,
                                                const at::Tensor& state, bool features) {
  const auto column = static_cast<int64_t>(depth);
  at::Tensor scores = features ? result.features[depth] : result.scores.select(2, column);
  if (state.dim() == 4 && !features) {
    scores = scores.reshape({state.size(0), state.size(2), state.size(3)});
  }
  nlohmann::json row{{"name", result.sites[depth]}, {"shape", scores.sizes().vec()}};
  if (result.gap.defined()) {
    row["largest_gap"] = result.gap.select(1, column).abs().max().item<double>();
  }
  if (result.proven.defined()) {
    row["proven"] = result.proven.select(1, column).sum().item<int64_t>();
  }
  return {scores, row};
}

}  // namespace

nlohmann::json attribute(const std::shared_ptr<const Program>& model, const Inputs& inputs,
                         const at::Tensor& mask, const std::vector<std::string>& sites,
                         const ModelOptions& files, const AttributeOptions& options) {
  const Method chosen = method(options.method);
  const Recording recording = model->record(moved(inputs, *model), sites);
  const std::vector<std::string> unmasked = sites_without_mask(mask, recording, sites);
  const ProgressLine progress;
  const auto began = std::chrono::steady_clock::now();
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, nlohmann::json> row_of;
  int64_t passes = 0;
  for (const std::vector<std::string>& group : groups_of(recording, sites, chosen)) {
    progress.show(row_of.size(), sites.size(), group.front());
    AttributionOptions common;
    common.sites = group;
    for (const std::string& site : group) {
      common.positions.push_back(positions_of(recording.state(site)));
    }
    common.target = target_of(recording.output(), options.target);
    common.fill = fill_of(options.baseline, options.seed);
    common.passes = {.max_batch = options.max_batch, .memory = options.memory_mb << 20};
    const Batch batch =
        batch_at(inputs, mask, recording.state(group.front()), common.positions.front());
    const Attribution result =
        chosen.make(model, common, settings_of(options), std::make_shared<BatchRows>(batch))
            ->attribute(batch);
    require(!options.features || !result.features.empty(), "--features",
            "asked for of a method that has them", options.method);
    for (size_t depth = 0; depth < group.size(); ++depth) {
      auto [scores, row] =
          result_at(result, depth, recording.state(group[depth]), options.features);
      row_of.emplace(group[depth], std::move(row));
      tensors.emplace(group[depth], std::move(scores));
    }
    passes += result.passes;
  }
  if (mask.defined()) {
    for (auto& [site, row] : row_of) row["masked"] = true;
    for (const std::string& site : unmasked) row_of.at(site)["masked"] = false;
  }
  nlohmann::json summary = provenance(*model, sites, files, options);
  if (!mask.defined()) summary["mask"] = "";
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : summary.items()) {
    metadata[key] = value.is_string() ? value.get<std::string>() : value.dump();
  }
  save_safetensors(options.out, tensors, metadata);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
  summary["sites"] = nlohmann::json::array();
  for (const std::string& site : sites) summary["sites"].push_back(row_of.at(site));
  summary["passes"] = passes;
  summary["seconds"] = seconds.count();
  return summary;
}

int run_attribute(const ModelOptions& options, const AttributeOptions& attribution) {
  const Safetensors file = load_safetensors(options.inputs);
  const Inputs inputs = inputs_of(file);
  const auto model = options.load(static_cast<int64_t>(inputs.size()), attribution.seed);
  const nlohmann::json result =
      attribute(model, inputs, mask_of(file, options.mask), options.explained_sites(*model, inputs),
                options, attribution);
  if (options.json) {
    fmt::print("{}\n", result.dump(2));
    return 0;
  }
  for (const nlohmann::json& site : result["sites"]) {
    fmt::print("{:<48} {}{}{}\n", site["name"].get<std::string>(), site["shape"].dump(),
               site.contains("largest_gap") ? ", largest gap " + site["largest_gap"].dump() : "",
               site.contains("proven") ? ", proven for " + site["proven"].dump() : "");
  }
  fmt::print("{} passes in {:.1f} s; wrote {}\n", result["passes"].dump(),
             result["seconds"].get<double>(), attribution.out);
  return 0;
}

}  // namespace diffmask::cli
