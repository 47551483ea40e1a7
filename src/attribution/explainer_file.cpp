#include "diffmask/attribution/explainer_file.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
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

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Part, name, options)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Capacity, examples, positions)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SiteShape, features, channels)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TrainingNote, seed, epsilon, steps, recipe)

namespace {

// Raised when the manifest's layout changes; files of another number are refused.
constexpr int kFormat = 2;

constexpr std::string_view kLayouts[] = {"sequence", "image",
                                         "units"};  // in the enumeration's order

const Part& saveable(const char* kind, const Part& part) {
  require(!part.name.empty(), kind, "one with a name, by which it can be made again (`part`)",
          "one without");
  return part;
}

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
    json layout = {{"layout", kLayouts[static_cast<size_t>(each.layout)]}, {"patch", each.patch}};
    if (!each.axes.empty()) layout["axes"] = each.axes;
    positions.push_back(std::move(layout));
  }
  return {{"format", kFormat},
          {"library", version()},
          {"model", model.fingerprint()},
          {"training", note},
          {"masking", options.masking == Masking::input ? "input" : "hidden"},
          {"sites", sites},
          {"positions", positions},
          {"capacity", explainer.capacity()},
          {"probe", saveable("probe", options.probe.part)},
          {"gate", saveable("gate", options.gate->part())},
          {"learned_baseline", options.baseline.learned}};
}

Positions::Layout layout_of(const json& positions) {
  const auto name = positions.at("layout").get<std::string>();
  const auto at = std::find(std::begin(kLayouts), std::end(kLayouts), name);
  require(at != std::end(kLayouts), "layout", fmt::format("one of {}", fmt::join(kLayouts, ", ")),
          name);
  return static_cast<Positions::Layout>(at - std::begin(kLayouts));
}

// The maker of a part: the library's, or the user's for other names.
template <typename Maker>
const Maker& maker_of(const char* kind, const Part& part, const std::map<std::string, Maker>& known,
                      const std::map<std::string, Maker>& users) {
  if (const auto found = known.find(part.name); found != known.end()) return found->second;
  if (const auto found = users.find(part.name); found != users.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [name, maker] : known) names.push_back(name);
  for (const auto& [name, maker] : users) names.push_back(name);
  throw ArgumentError(
      kind, fmt::format("one of {}, or made by PartFactories::{}s", fmt::join(names, ", "), kind),
      fmt::format("'{}'", part.name));
}

ExplainerOptions parse_options(const json& manifest, const PartFactories& users) {
  ExplainerOptions options;
  const auto masking = manifest.at("masking").get<std::string>();
  require(masking == "input" || masking == "hidden", "masking", "input or hidden", masking);
  options.masking = masking == "input" ? Masking::input : Masking::hidden;
  for (const json& site : manifest.at("sites")) options.sites.push_back(site.at("name"));
  for (const json& each : manifest.at("positions")) {
    options.positions.push_back(
        {layout_of(each), each.at("patch"), each.value("axes", std::string())});
  }
  const auto probe = manifest.at("probe").get<Part>(), gate = manifest.at("gate").get<Part>();
  options.probe = maker_of("probe", probe, probes(), users.probes)(probe);
  options.gate = maker_of("gate", gate, gates(), users.gates)(gate);
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
LoadedExplainer rebuild(const json& manifest, const Safetensors& file, const FrozenModel& model,
                        const PartFactories& users) {
  require(manifest.at("format") == kFormat, "format", fmt::format("{}", kFormat),
          fmt::format("{}, of library version {}", manifest.at("format").dump(),
                      manifest.value("library", "unknown")));
  const ExplainerOptions options = parse_options(manifest, users);
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
  const auto tensors = tensors_of(*explainer);
  require(tensors.size() == file.tensors.size(), "tensors",
          fmt::format("{} in number", tensors.size()), file.tensors.size());
  at::NoGradGuard no_grad;
  explainer->to(model.device(), file.tensors.begin()->second.scalar_type());
  for (const auto& [name, tensor] : tensors) {
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

LoadedExplainer load_explainer(const std::string& path, const FrozenModel& model,
                               const PartFactories& users) {
  const Safetensors file = load_safetensors(path);
  if (!file.metadata.contains("manifest") || !file.metadata.contains("sha1")) {
    throw FileError(path, "is no explainer file: it has no manifest");
  }
  const std::string& manifest = file.metadata.at("manifest");
  if (file.metadata.at("sha1") != digest(manifest, file.tensors)) {
    throw FileError(path, "was damaged or edited: its contents do not have the SHA-1 it records");
  }
  try {
    return rebuild(json::parse(manifest), file, model, users);
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
