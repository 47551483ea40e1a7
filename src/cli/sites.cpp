#include "cli/sites.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

namespace diffmask::cli {

using nlohmann::json;

void add_sites(CLI::App& command, ModelOptions& options) {
  options.add_to(command);
  command.add_option("--inputs", options.inputs,
                     "Inputs to show shapes for: a safetensors file with input0, input1, ..., or "
                     "shapes such as 'int64[2,7];float32[2,7]'");
}

int list_sites(const ModelOptions& options) {
  std::optional<Inputs> inputs;
  if (!options.inputs.empty()) inputs = inputs_of_spec(options.inputs);
  const auto model = options.load(inputs ? static_cast<int64_t>(inputs->size()) : -1);
  std::optional<Recording> recording;
  if (inputs) recording = model->record(moved(*inputs, *model));
  json table = json::array();
  std::string text =
      fmt::format("{:>5}  {:<48} {:<24} {:<20} {}\n", "step", "site", "module", "shape", "dtype");
  for (const std::string& name : model->select(options.pattern)) {
    const Site& site = model->site(name);
    json row{{"name", site.name}, {"type", site.type}, {"shape", nullptr}, {"dtype", nullptr}};
    if (recording && recording->has(name)) {
      row["shape"] = recording->state(name).sizes().vec();
      row["dtype"] = dtype_name(recording->state(name).scalar_type());
    }
    text += fmt::format("{:>5}  {:<48} {:<24} {:<20} {}\n", site.step, site.name, site.type,
                        row["shape"].is_null() ? "" : row["shape"].dump(),
                        row["dtype"].is_null() ? "" : row["dtype"].get<std::string>());
    table.push_back(std::move(row));
  }
  fmt::print("{}", options.json ? table.dump(2) + "\n" : text);
  return 0;
}

}  // namespace diffmask::cli
