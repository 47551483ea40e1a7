#include "cli/attribute.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
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
#include "diffmask/mask/arranged.hpp"
#include "diffmask/train/callback.hpp"
#include "diffmask/version.hpp"

namespace diffmask::cli {
namespace {

at::Tensor everywhere(const Positions& positions, const at::Tensor& state) {
  const at::Tensor features = positions.features(state);
  return at::ones({features.size(0), features.size(1)}, at::kBool);
}

// What one attribution explains: sites of the same positions, where that is one walk for all of
// them; else each alone, so that what is drawn at a site does not depend on the others.
std::vector<std::vector<std::string>> groups_of(const Recording& recording,
                                                const std::vector<std::string>& sites,
                                                const Layouts& layouts, const Method& method) {
  std::vector<std::vector<std::string>> groups;
  std::map<std::vector<int64_t>, size_t> known;  // by the mask's shape
  for (const std::string& site : sites) {
    const at::Tensor& state = recording.state(site);
    const auto shape = everywhere(layouts.at(site), state).sizes().vec();
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
  options.outputs.add_to(command);
  command
      .add_option("--baseline", options.baseline,
                  "What replaces a state: zero, mean (of these inputs' states), or a safetensors "
                  "file with a tensor for each site")
      ->capture_default_str();
  command.add_flag(
      "--nan-to-zero", options.nan_to_zero,
      "Write 0 for numbers that are not finite, and say how many, in place of an error");
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

Layouts layouts_of(const Program& model, const Recording& recording,
                   const std::vector<std::string>& sites, const OutputOptions& options) {
  Layouts layouts;
  for (const std::string& site : sites) {
    try {
      layouts.emplace(site, layout_of(model, recording, site, options.layouts));
    } catch (const ArgumentError& error) {
      if (sites.size() == 1) throw;
      fmt::print(stderr, "diffmask: left out: {}\n", error.what());
    }
  }
  require(!layouts.empty(), "--sites", "a pattern of states whose axes can be told",
          fmt::format("{} others", sites.size()));
  return layouts;
}

Fill fill_of(const std::string& baseline, uint64_t seed, const Layouts& layouts) {
  if (baseline == "other") return fill::other_example(make_generator(seed));
  if (baseline == "zero") return fill::zero;
  if (baseline == "mean") {
    return [layouts](const std::string& site, const at::Tensor& state) {
      const Positions positions = layouts.at(site).arranged();
      const at::Tensor mask = everywhere(positions, state);
      return positions.expand_vector(positions.channel_values(state, mask).mean(0));
    };
  }
  require(std::filesystem::exists(baseline), "--baseline",
          "zero, mean, other or a safetensors file", fmt::format("'{}'", baseline));
  auto tensors = load_safetensors(baseline).tensors;
  for (auto& [site, tensor] : tensors) {
    const auto found = layouts.find(site);  // a tensor with all of the state's axes is laid out so
    if (found == layouts.end() || found->second.batch_first()) continue;
    const std::string names = found->second.names();
    const auto axes = std::count_if(names.begin(), names.end(), [](char c) { return c >= 'A'; });
    if (tensor.dim() == axes) tensor = found->second.arrange(tensor);
  }
  return fill::given(std::move(tensors));
}

Batch batch_at(const Program& model, const Recording& recording, const at::Tensor& mask,
               const std::string& site, const Positions& positions) {
  const at::Tensor all = everywhere(positions, recording.state(site));
  const bool fits = mask.defined() && mask.sizes() == all.sizes();
  Batch batch{recording.inputs(), fits ? mask : all, at::arange(all.size(0), at::kLong)};
  batch.axes = axes_of(model, recording, all.size(0));
  return batch.to(recording.output().device());
}

std::vector<std::string> sites_without_mask(const at::Tensor& mask, const Recording& recording,
                                            const std::vector<std::string>& sites,
                                            const Layouts& layouts) {
  std::vector<std::string> others;
  std::map<std::string, std::string> shapes;  // each with the first site that has it
  for (const std::string& site : sites) {
    const auto shape = everywhere(layouts.at(site), recording.state(site)).sizes().vec();
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
                          const std::string& target, const ModelOptions& files,
                          const AttributeOptions& options) {
  return {{"diffmask", version()},
          {"model", model.fingerprint()},
          {"model_file", files.model},
          {"output", files.output},
          {"inputs_file", files.inputs},
          {"mask", files.mask.empty() ? "mask" : files.mask},
          {"sites", sites},
          {"method", options.method},
          {"target", target},
          {"output_kind", options.outputs.kind},
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
                                                const at::Tensor& state, const Positions& positions,
                                                bool features) {
  const auto column = static_cast<int64_t>(depth);
  const at::Tensor scores =
      features ? result.features[depth]
               : positions.in_place(result.scores.select(2, column), state).contiguous();
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
                         const at::Tensor& mask, std::vector<std::string> sites,
                         const ModelOptions& files, const AttributeOptions& options) {
  const Method chosen = method(options.method);
  const Recording recording = model->record(moved(inputs, *model), sites);
  const Layouts layouts = layouts_of(*model, recording, sites, options.outputs);
  std::erase_if(sites, [&](const std::string& site) { return !layouts.contains(site); });
  const std::vector<std::string> unmasked = sites_without_mask(mask, recording, sites, layouts);
  const ProgressLine progress;
  const auto began = std::chrono::steady_clock::now();
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, nlohmann::json> row_of;
  std::string target;
  int64_t passes = 0, zeroed = 0;
  for (const std::vector<std::string>& group : groups_of(recording, sites, layouts, chosen)) {
    progress.show(row_of.size(), sites.size(), group.front());
    AttributionOptions common;
    common.sites = group;
    for (const std::string& site : group) {
      common.positions.push_back(layouts.at(site));
    }
    const Explained what =
        explained(arranged_output(recording.output(), common.positions.front().unbatched()),
                  options.outputs, chosen);
    target = what.target_name;
    MethodSettings settings = settings_of(options);
    if (what.target) common.target = what.target;
    if (what.divergence) settings.divergence = what.divergence;
    if (what.criterion) settings.criterion = what.criterion;
    common.nan_to_zero = options.nan_to_zero;
    common.fill = fill_of(options.baseline, options.seed, layouts);
    common.passes = {.max_batch = options.max_batch, .memory = options.memory_mb << 20};
    const Batch batch = batch_at(*model, recording, mask, group.front(), common.positions.front());
    const Attribution result =
        chosen.make(model, common, settings, std::make_shared<BatchRows>(batch))->attribute(batch);
    require(!options.features || !result.features.empty(), "--features",
            "asked for of a method that has them", options.method);
    for (size_t depth = 0; depth < group.size(); ++depth) {
      auto [scores, row] = result_at(result, depth, recording.state(group[depth]),
                                     common.positions[depth], options.features);
      row_of.emplace(group[depth], std::move(row));
      tensors.emplace(group[depth], std::move(scores));
    }
    passes += result.passes;
    zeroed += result.zeroed;
  }
  if (mask.defined()) {
    for (auto& [site, row] : row_of) row["masked"] = true;
    for (const std::string& site : unmasked) row_of.at(site)["masked"] = false;
  }
  nlohmann::json summary = provenance(*model, sites, target, files, options);
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
  summary["zeroed"] = zeroed;
  summary["seconds"] = seconds.count();
  return summary;
}

int run_attribute(const ModelOptions& options, const AttributeOptions& attribution) {
  const Safetensors file = load_safetensors(options.inputs);
  const Inputs inputs = inputs_of(file);
  const ModelOptions chosen = attribution.outputs.chosen(options);
  const auto model = chosen.load(static_cast<int64_t>(inputs.size()), attribution.seed);
  const nlohmann::json result =
      attribute(model, inputs, mask_of(file, options.mask), chosen.explained_sites(*model, inputs),
                chosen, attribution);
  if (options.json) {
    fmt::print("{}\n", result.dump(2));
    return 0;
  }
  for (const nlohmann::json& site : result["sites"]) {
    fmt::print("{:<48} {}{}{}\n", site["name"].get<std::string>(), site["shape"].dump(),
               site.contains("largest_gap") ? ", largest gap " + site["largest_gap"].dump() : "",
               site.contains("proven") ? ", proven for " + site["proven"].dump() : "");
  }
  if (result["zeroed"] != 0) {
    fmt::print("{} numbers were not finite: 0 was written for them\n", result["zeroed"].dump());
  }
  fmt::print("{} passes in {:.1f} s; wrote {}\n", result["passes"].dump(),
             result["seconds"].get<double>(), attribution.out);
  return 0;
}

}  // namespace diffmask::cli
