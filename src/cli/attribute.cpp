#include "cli/attribute.hpp"

#include <chrono>
#include <filesystem>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/attribution/deeplift.hpp"
#include "diffmask/attribution/erasure.hpp"
#include "diffmask/attribution/integrated_gradients.hpp"
#include "diffmask/attribution/lrp.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask::cli {
namespace {

using Model = std::shared_ptr<const Program>;
using Make = std::function<std::unique_ptr<Attributor>(const Model&, const AttributionOptions&,
                                                       const AttributeOptions&)>;

template <typename Method>
Make plain() {
  return [](const Model& model, const AttributionOptions& common, const AttributeOptions&) {
    return std::make_unique<Method>(model, common);
  };
}

template <typename Method>
Make random() {
  return [](const Model& model, const AttributionOptions& common, const AttributeOptions& own) {
    return std::make_unique<Method>(model, make_generator(own.seed), common);
  };
}

const std::vector<std::pair<std::string, Make>>& methods() {
  static const std::vector<std::pair<std::string, Make>> all = {
      {"uniform", plain<Uniform>()},
      {"random", random<Random>()},
      {"gradient", plain<Gradient>()},
      {"gradient_x_input", plain<GradientTimesInput>()},
      {"integrated_gradients",
       [](const Model& model, const AttributionOptions& common, const AttributeOptions& own) {
         return std::make_unique<IntegratedGradients>(
             model, common,
             IntegratedGradientsOptions{.steps = own.steps, .max_steps = 8 * own.steps});
       }},
      {"deeplift", plain<DeepLift>()},
      {"lrp", plain<Lrp>()},
      {"leave_one_out", plain<LeaveOneOut>()},
      {"exact_search", plain<ExactSearch>()},
      {"beam_search",
       [](const Model& model, const AttributionOptions& common, const AttributeOptions& own) {
         return std::make_unique<BeamSearch>(model, common, BeamSearchOptions{.beam = own.beam});
       }},
      {"random_search", random<RandomSearch>()},
  };
  return all;
}

// A state's positions follow from its dimensions; that there are others is found out by its use.
Positions positions_of(const at::Tensor& state) {
  using Layout = Positions::Layout;
  return {state.dim() == 2 ? Layout::units : state.dim() == 4 ? Layout::image : Layout::sequence};
}

at::Tensor everywhere(const Positions& positions, const at::Tensor& state) {
  const at::Tensor features = positions.features(state);
  return at::ones({features.size(0), features.size(1)}, at::kBool);
}

// Zero, the mean over the file's own states, or a tensor a site from a file.
Fill fill_of(const std::string& baseline) {
  if (baseline == "zero") return fill::zero;
  if (baseline == "mean") {
    return [](const std::string&, const at::Tensor& state) {
      const Positions positions = positions_of(state);
      return positions.expand_vector(positions.mean_vector(state, everywhere(positions, state)));
    };
  }
  require(std::filesystem::exists(baseline), "--baseline", "zero, mean or a safetensors file",
          fmt::format("'{}'", baseline));
  return fill::given(load_safetensors(baseline).tensors);
}

Target target_of(const at::Tensor& output, int64_t index) {
  if (index >= 0) return target::class_index(index);
  const bool one_number = output.dim() == 1 || (output.dim() == 2 && output.size(1) == 1);
  return one_number ? Target(target::scalar) : Target(target::predicted);
}

Batch batch_at(const Inputs& inputs, const Safetensors& file, const at::Tensor& state,
               const Positions& positions) {
  at::Tensor mask = everywhere(positions, state);
  const auto given = file.tensors.find("mask");
  if (given != file.tensors.end() && given->second.sizes() == mask.sizes()) mask = given->second;
  return {inputs, mask, at::arange(mask.size(0), at::kLong), {}};
}

}  // namespace

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const auto& [name, make] : methods()) names.push_back(name);
  return names;
}

nlohmann::json attribute(const Model& model, const Inputs& inputs, const Safetensors& file,
                         const std::vector<std::string>& sites, const AttributeOptions& options) {
  const auto method = std::find_if(methods().begin(), methods().end(),
                                   [&](const auto& m) { return m.first == options.method; });
  require(method != methods().end(), "--method",
          fmt::format("one of {}", fmt::join(method_names(), ", ")), options.method);
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
    common.fill = fill_of(options.baseline);
    common.passes = {.max_batch = options.max_batch, .memory = options.memory_mb << 20};
    const Attribution result = method->second(model, common, options)
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
