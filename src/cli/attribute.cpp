#include "cli/attribute.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>

#include "diffmask/attribution/methods.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"

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

Batch batch_at(const Inputs& inputs, const Safetensors& file, const at::Tensor& state,
               const Positions& positions) {
  at::Tensor mask = everywhere(positions, state);
  const auto given = file.tensors.find("mask");
  if (given != file.tensors.end() && given->second.sizes() == mask.sizes()) mask = given->second;
  return {inputs, mask, at::arange(mask.size(0), at::kLong), {}};
}

nlohmann::json attribute(const std::shared_ptr<const Program>& model, const Inputs& inputs,
                         const Safetensors& file, const std::vector<std::string>& sites,
                         const AttributeOptions& options) {
  const Method& chosen = method(options.method);
  const MethodSettings settings{.steps = options.steps, .beam = options.beam, .seed = options.seed};
  const Recording recording = model->record(inputs, sites);
  const auto began = std::chrono::steady_clock::now();
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, nlohmann::json> row_of;
  int64_t passes = 0;
  for (const std::vector<std::string>& group : groups_of(recording, sites, chosen)) {
    AttributionOptions common;
    common.sites = group;
    for (const std::string& site : group) {
      common.positions.push_back(positions_of(recording.state(site)));
    }
    common.target = target_of(recording.output(), options.target);
    common.fill = fill_of(options.baseline, options.seed);
    common.passes = {.max_batch = options.max_batch, .memory = options.memory_mb << 20};
    const Batch batch =
        batch_at(inputs, file, recording.state(group.front()), common.positions.front());
    const Attribution result = chosen.make(model, common, settings)->attribute(batch);
    require(!options.features || !result.features.empty(), "--features",
            "asked for of a method that has them", options.method);
    for (size_t depth = 0; depth < group.size(); ++depth) {
      const auto column = static_cast<int64_t>(depth);
      const at::Tensor& state = recording.state(group[depth]);
      at::Tensor scores =
          options.features ? result.features[depth] : result.scores.select(2, column);
      if (state.dim() == 4 && !options.features) {
        scores = scores.reshape({state.size(0), state.size(2), state.size(3)});
      }
      nlohmann::json row{{"name", group[depth]}, {"shape", scores.sizes().vec()}};
      if (result.gap.defined()) {
        row["largest_gap"] = result.gap.select(1, column).abs().max().item<double>();
      }
      if (result.proven.defined()) {
        row["proven"] = result.proven.select(1, column).sum().item<int64_t>();
      }
      row_of.emplace(group[depth], std::move(row));
      tensors.emplace(group[depth], std::move(scores));
    }
    passes += result.passes;
  }
  nlohmann::json rows = nlohmann::json::array();
  for (const std::string& site : sites) rows.push_back(row_of.at(site));
  save_safetensors(options.out, tensors, {{"method", options.method}});
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
  return {{"method", options.method},
          {"sites", rows},
          {"passes", passes},
          {"seconds", seconds.count()}};
}

}  // namespace diffmask::cli
