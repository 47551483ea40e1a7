#include "cli/model_file.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <regex>
#include <sstream>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/program/exported.hpp"

namespace diffmask::cli {
namespace {

constexpr std::pair<const char*, at::ScalarType> kDtypes[] = {
    {"float32", at::kFloat}, {"float64", at::kDouble}, {"int64", at::kLong},
    {"int32", at::kInt},     {"bool", at::kBool},      {"float16", at::kHalf}};

c10::Device device_named(const std::string& name) {
  const std::string rule = "cpu, or a device that this LibTorch and machine have, such as cuda:1";
  std::string why;
  try {
    const c10::Device device(name);
    at::empty({1}, at::TensorOptions(device));
    return device;
  } catch (const c10::Error& error) {
    why = error.what_without_backtrace();
  }
  throw ArgumentError("--device", rule,
                      fmt::format("'{}' ({})", name, why.substr(0, why.find(". "))));
}

}  // namespace

void ModelOptions::add_to(CLI::App& command) {
  command.add_option("model", model, "TorchScript archive, or an exported program (.pt2)")
      ->required()
      ->check(CLI::ExistingFile);
  command
      .add_option("--sites", pattern,
                  "Pattern of the sites' names: '*' stops at dots, '**' does not")
      ->capture_default_str();
  command.add_option("--output", output, "Which tensor of a structured output, such as '[0]'");
  command.add_flag("--module-inputs", module_inputs, "Add sites at the inputs of modules");
  command.add_flag("--json", json, "Print JSON");
  command
      .add_option("--device", device,
                  "Where the model runs: cpu, cuda, cuda:1, ... Inputs and constants follow it")
      ->capture_default_str();
  command.add_option("--threads", threads, "Number of threads")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

std::shared_ptr<const Program> ModelOptions::load() const {
  return load_program(model, {output, module_inputs, device_named(device)});
}

std::vector<std::string> ModelOptions::sites_of(const Program& program) const {
  if (program.sites().empty()) return {};
  return program.select(pattern);
}

std::string dtype_name(at::ScalarType dtype) {
  for (const auto& [name, value] : kDtypes) {
    if (value == dtype) return name;
  }
  return c10::toString(dtype);
}

Inputs inputs_of(const Safetensors& file) {
  Inputs inputs;
  while (file.tensors.contains(fmt::format("input{}", inputs.size()))) {
    inputs.push_back(file.at(fmt::format("input{}", inputs.size())));
  }
  require(!inputs.empty(), "--inputs", "a file with a tensor 'input0'", "one without");
  return inputs;
}

Inputs inputs_of_spec(const std::string& spec) {
  if (std::filesystem::exists(spec)) return inputs_of(load_safetensors(spec));
  Inputs inputs;
  const std::regex one(R"((\w+)\[(\d{1,9}(?:,\d{1,9})*)?\](?:;|$))");
  size_t read = 0;
  for (std::sregex_iterator match(spec.begin(), spec.end(), one), end; match != end; ++match) {
    if (static_cast<size_t>(match->position()) != read) break;
    read += static_cast<size_t>(match->length());
    const auto dtype = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                    [&](const auto& d) { return (*match)[1] == d.first; });
    if (dtype == std::end(kDtypes)) break;
    std::vector<int64_t> shape;
    std::istringstream sizes((*match)[2]);
    for (std::string size; std::getline(sizes, size, ',');) shape.push_back(std::stoll(size));
    inputs.push_back(at::zeros(shape, dtype->second));
  }
  require(!inputs.empty() && read == spec.size(), "--inputs",
          "a safetensors file, or shapes such as 'int64[2,7];float32[2,7]'",
          fmt::format("'{}'", spec));
  return inputs;
}

Inputs moved(Inputs inputs, const FrozenModel& model) {
  for (at::Tensor& input : inputs) input = input.to(model.device());
  return inputs;
}

}  // namespace diffmask::cli
