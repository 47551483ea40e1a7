#include "diffmask/attribution/explainer_file.hpp"

#include <ATen/ATen.h>
#include <c10/util/hash.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/version.hpp"

namespace diffmask {

using nlohmann::json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MlpProbeOptions, hidden_size, initial_bias, bound, layer_norm)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FreeLogitsOptions, initial, limit)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(HardConcreteOptions, tau, lower, upper, location_bias,
                                   straight_through)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Capacity, examples, positions)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SiteShape, features, channels)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TrainingNote, seed, epsilon, steps)

namespace {

// Raised when the manifest's layout changes; files of another number are refused.
constexpr int kFormat = 1;

constexpr std::string_view kLayouts[] = {"sequence", "image",
                                         "units"};  // in the enumeration's order

json describe(const Explainer& explainer, const FrozenModel& model, const TrainingNote& note) {
  const ExplainerOptions& options = explainer.options();
  json sites = json::array();
  for (size_t depth = 0; depth < options.sites.size(); ++depth) {
    json site = explainer.shapes()[depth];
    site["name"] = options.sites[depth];
    sites.push_back(site);
  }
  json positions = json::array();
  for (const Positions& each : options.positions) {
    positions.push_back(
        {{"layout", kLayouts[static_cast<size_t>(each.layout)]}, {"patch", each.patch}});
  }
  return {{"format", kFormat},
          {"library", version()},
          {"model", model.fingerprint()},
          {"training", note},
          {"masking", options.masking == Masking::input ? "input" : "hidden"},
          {"sites", sites},
          {"positions", positions},
          {"per_sample", options.per_sample},
          {"capacity", explainer.capacity()},
          {"probe", options.probe},
          {"free_logits", options.free_logits},
          {"gate_kind", options.gate_kind == GateKind::bernoulli ? "bernoulli" : "hard_concrete"},
          {"gate", options.gate},
          {"learned_baseline", options.baseline.learned}};
}

Positions::Layout layout_of(const json& positions) {
  // The first files knew two layouts and said "image": true or false.
  if (positions.contains("image")) {
    return positions.at("image") ? Positions::Layout::image : Positions::Layout::sequence;
  }
  const auto name = positions.at("layout").get<std::string>();
  const auto at = std::find(std::begin(kLayouts), std::end(kLayouts), name);
  require(at != std::end(kLayouts), "layout", fmt::format("one of {}", fmt::join(kLayouts, ", ")),
          name);
  return static_cast<Positions::Layout>(at - std::begin(kLayouts));
}

ExplainerOptions parse_options(const json& manifest) {
  ExplainerOptions options;
  const auto masking = manifest.at("masking").get<std::string>();
  require(masking == "input" || masking == "hidden", "masking", "input or hidden", masking);
  options.masking = masking == "input" ? Masking::input : Masking::hidden;
  for (const json& site : manifest.at("sites")) options.sites.push_back(site.at("name"));
  for (const json& each : manifest.at("positions")) {
    options.positions.push_back({layout_of(each), each.at("patch")});
  }
  manifest.at("per_sample").get_to(options.per_sample);
  manifest.at("probe").get_to(options.probe);
  manifest.at("free_logits").get_to(options.free_logits);
  // Files from before there was a choice have no kind.
  const auto kind = manifest.value("gate_kind", "hard_concrete");
  require(kind == "bernoulli" || kind == "hard_concrete", "gate_kind", "bernoulli or hard_concrete",
          kind);
  options.gate_kind = kind == "bernoulli" ? GateKind::bernoulli : GateKind::hard_concrete;
  manifest.at("gate").get_to(options.gate);
  manifest.at("learned_baseline").get_to(options.baseline.learned);
  options.baseline.start = BaselineOptions::Start::zero;  // its values come from the file
  return options;
}

std::map<std::string, at::Tensor> tensors_of(const Explainer& explainer) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& item : explainer.named_parameters()) tensors.emplace(item.key(), item.value());
  return tensors;
}

std::string digest(const std::string& manifest, const std::map<std::string, at::Tensor>& tensors) {
  std::string text = manifest;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor data = tensor.detach().to(at::kCPU).contiguous();
    text += fmt::format("\n{} {} {} ", name, c10::toString(data.scalar_type()),
                        shape_string(data.sizes()));
    text.append(static_cast<const char*>(data.data_ptr()), data.nbytes());
  }
  return c10::sha1(text).str();
}

// Rebuilds the explainer that the manifest describes; ArgumentError or json's error where it is
// amiss.
LoadedExplainer rebuild(const json& manifest, const Safetensors& file, const FrozenModel& model) {
  require(manifest.at("format") == kFormat, "format", fmt::format("{}", kFormat),
          fmt::format("{}, of library version {}", manifest.at("format").dump(),
                      manifest.value("library", "unknown")));
  const ExplainerOptions options = parse_options(manifest);
  for (const std::string& site : options.sites) model.site(site);
  require(manifest.at("model") == model.fingerprint(), "model",
          fmt::format("the one of fingerprint {}, which the explainer was trained for",
                      manifest.at("model").get<std::string>()),
          fmt::format("one of fingerprint {}", model.fingerprint()));
  std::vector<SiteShape> shapes;
  for (const json& site : manifest.at("sites")) shapes.push_back(site.get<SiteShape>());

  // Its random first values do not matter: each is overwritten from the file.
  auto explainer = std::make_shared<Explainer>(
      options, shapes, manifest.at("capacity").get<Capacity>(), make_generator(0));
  const auto own = tensors_of(*explainer);
  require(own.size() == file.tensors.size(), "tensors", fmt::format("{} in number", own.size()),
          file.tensors.size());
  at::NoGradGuard no_grad;
  explainer->to(model.device(), file.tensors.begin()->second.scalar_type());
  for (const auto& [name, tensor] : own) {
    check_shape(name, file.at(name), tensor.sizes());
    at::Tensor(tensor).copy_(file.at(name));
  }
  return {explainer, manifest.at("training").get<TrainingNote>()};
}

}  // namespace

void save_explainer(const std::string& path, const Explainer& explainer, const FrozenModel& model,
                    const TrainingNote& note) {
  const std::string manifest = describe(explainer, model, note).dump();
  const auto tensors = tensors_of(explainer);
  save_safetensors(path, tensors, {{"manifest", manifest}, {"sha1", digest(manifest, tensors)}});
}

LoadedExplainer load_explainer(const std::string& path, const FrozenModel& model) {
  const Safetensors file = load_safetensors(path);
  if (!file.metadata.contains("manifest") || !file.metadata.contains("sha1")) {
    throw FileError(path, "is no explainer file: it has no manifest");
  }
  const std::string& manifest = file.metadata.at("manifest");
  if (file.metadata.at("sha1") != digest(manifest, file.tensors)) {
    throw FileError(path, "was damaged or edited: its contents do not have the SHA-1 it records");
  }
  try {
    return rebuild(json::parse(manifest), file, model);
  } catch (const FileError&) {
    throw;
  } catch (const Error& error) {
    throw FileError(path, error.what());
  } catch (const json::exception& error) {
    throw FileError(path,
                    fmt::format("has a manifest that is not an explainer's: {}", error.what()));
  }
}

}  // namespace diffmask
