#include "cli/attribute.hpp"

#include <chrono>
#include <filesystem>

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
  nlohmann::json rows = nlohmann::json::array();
  int64_t passes = 0;
  for (const std::string& site : sites) {
    const at::Tensor& state = recording.state(site);
    AttributionOptions common;
    common.sites = {site};
    common.positions = {positions_of(state)};
    common.target = target_of(recording.output(), options.target);
    common.fill = fill_of(options.baseline, options.seed);
    common.passes = {.max_batch = options.max_batch, .memory = options.memory_mb << 20};
    const Attribution result = chosen.make(model, common, settings)
                                   ->attribute(batch_at(inputs, file, state, common.positions[0]));
    require(!options.features || !result.features.empty(), "--features",
            "asked for of a method that has them", options.method);
    at::Tensor scores = options.features ? result.features[0] : result.scores.select(2, 0);
    if (state.dim() == 4 && !options.features) {
      scores = scores.reshape({state.size(0), state.size(2), state.size(3)});
    }
    nlohmann::json row{{"name", site}, {"shape", scores.sizes().vec()}};
    if (result.gap.defined()) row["largest_gap"] = result.gap.abs().max().item<double>();
    if (result.proven.defined()) row["proven"] = result.proven.sum().item<int64_t>();
    rows.push_back(std::move(row));
    tensors.emplace(site, std::move(scores));
    passes += result.passes;
  }
  save_safetensors(options.out, tensors, {{"method", options.method}});
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
  return {{"method", options.method},
          {"sites", rows},
          {"passes", passes},
          {"seconds", seconds.count()}};
}

}  // namespace diffmask::cli
