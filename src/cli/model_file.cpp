#include "cli/model_file.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <map>
#include <regex>
#include <sstream>
#include <thread>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
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
  command.add_flag("--allow-chance", allow_chance,
                   "Run models with operators that draw random numbers or update statistics, as in "
                   "training. The seed is set for each pass; statistics are never written");
  command.add_option("--function", function, "Method of a TorchScript model, where it has several")
      ->capture_default_str();
  command.add_flag("--json", json, "Print JSON");
  command
      .add_option("--device", device,
                  "Where the model runs: cpu, cuda, cuda:1, ... Inputs and constants follow it")
      ->capture_default_str();
  command
      .add_option("--threads", threads,
                  "Number of threads; by default 2, or 1 where the program may use one core only")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void ModelOptions::add_inputs_and_mask(CLI::App& command) {
  command
      .add_option(
          "--inputs", inputs,
          "Safetensors file with input0, input1, ..., and maybe mask: which positions count")
      ->required()
      ->check(CLI::ExistingFile);
  command.add_option(
      "--mask", mask,
      "Tensor of the inputs' file that says which positions count, (B, P) of 0 and 1, "
      "such as input1 where that is an attention mask; by default 'mask', if the file "
      "has it");
}

int64_t default_threads() { return std::thread::hardware_concurrency() == 1 ? 1 : 2; }

std::shared_ptr<const Program> ModelOptions::load(int64_t given, uint64_t seed) const {
  ProgramOptions options;
  options.output = output;
  options.module_inputs = module_inputs;
  options.device = device_named(device);
  options.inputs = true;
  options.allow_chance = allow_chance;
  options.seed = seed;
  options.method = function;
  options.given = given;
  try {
    return load_program(model, options);
  } catch (const ArgumentError& error) {  // what the file holds is no argument
    for (const char* ours : {"output", "method", "device"}) {
      if (error.argument() == ours) throw;
    }
    throw FileError(model, error.what());
  }
}

std::vector<std::string> ModelOptions::sites_of(const Program& program) const {
  const std::vector<std::string> names = program.select(pattern);
  std::vector<std::string> inner;
  for (const std::string& name : names) {
    if (!program.site(name).is_input) inner.push_back(name);
  }
  return inner.empty() ? names : inner;
}

namespace {

// Why a state is no site by default; empty where it is one.
std::string left_out(const Site& site, const Recording& recording, int64_t batch) {
  if (!recording.has(site.name)) return "not reached on these inputs";
  const at::Tensor& state = recording.state(site.name);
  if (!state.is_floating_point() && !state.is_complex()) return "of whole numbers";
  const auto is_batch = [&](int64_t axis) {
    return axis < state.dim() && state.size(axis) == batch;
  };
  if (site.is_fixed || (!is_batch(0) && !is_batch(1))) return "without a row per example";
  return "";
}

}  // namespace

std::vector<std::string> ModelOptions::explained_sites(const Program& program,
                                                       const Inputs& inputs) const {
  const std::vector<std::string> names = sites_of(program);
  if (names.size() == 1 && names[0] == pattern) return names;  // asked for by name
  const Recording recording = program.record(inputs, names);
  const at::Tensor& output = recording.output();
  const int64_t batch = output.dim() > 0 ? output.size(0) : 1;
  std::vector<std::string> explained;
  std::map<std::string, std::vector<std::string>> others;
  for (const std::string& name : names) {
    const std::string reason = left_out(program.site(name), recording, batch);
    (reason.empty() ? explained : others[reason]).push_back(name);
  }
  for (const auto& [reason, sites] : others) {
    fmt::print(stderr, "diffmask: left out, {}: {}\n", reason, fmt::join(sites, ", "));
  }
  require(!explained.empty(), "--sites",
          "a pattern of states that can be explained: numbers that are not whole, with a row per "
          "example",
          fmt::format("'{}', which has none", pattern));
  return explained;
}

std::string dtype_name(at::ScalarType dtype) {
  for (const auto& [name, value] : kDtypes) {
    if (value == dtype) return name;
  }
  return c10::toString(dtype);
}

Inputs inputs_of(const Safetensors& file) {
  Inputs inputs;
  while (file.has(fmt::format("input{}", inputs.size()))) {
    inputs.push_back(file.at(fmt::format("input{}", inputs.size())));
  }
  require(!inputs.empty(), "--inputs", "a file with a tensor 'input0'", "one without");
  return inputs;
}

at::Tensor mask_of(const Safetensors& file, const std::string& name) {
  if (name.empty() && !file.has("mask")) return {};
  const std::string chosen = name.empty() ? "mask" : name;
  const at::Tensor& mask = file.at(chosen);
  const at::Tensor kept = mask.ne(0);
  require(mask.eq(kept).all().item<bool>(), fmt::format("the mask '{}'", chosen), "of 0 and 1",
          "other values");
  require(kept.dim() >= 2, fmt::format("the mask '{}'", chosen), "of shape (B, P)",
          shape_string(kept.sizes()));
  return kept.flatten(1);  // an image's mask (B, height, width) as positions
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
