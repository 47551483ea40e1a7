#include "cli/check.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/script.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/program/exported.hpp"

namespace diffmask::cli {
namespace {

using nlohmann::json;

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  check_shape("output", a, b.sizes());
  if (a.numel() == 0) return 0.0;
  return (a.cpu().to(at::kDouble) - b.cpu().to(at::kDouble)).abs().max().item<double>();
}

// What the model itself gives: known from the file, or by Module::forward.
at::Tensor expected_output(const ModelOptions& options, const Safetensors& file,
                           const Inputs& inputs) {
  if (file.tensors.contains("output")) return file.at("output");
  require(!is_exported(options.model), "--inputs",
          "a file with the expected 'output', where the model is an exported program",
          "one without");
  torch::jit::Module module = torch::jit::load(options.model, c10::Device(options.device));
  c10::IValue output = module.forward({inputs.begin(), inputs.end()});
  while (output.isTuple()) output = c10::IValue(output.toTuple()->elements().at(0));
  require(output.isTensor(), "the model's output", "a tensor, or a tuple that begins with one",
          output.tagKind());
  return output.toTensor();
}

}  // namespace

void add_check(CLI::App& command, ModelOptions& options) {
  options.add_to(command);
  command
      .add_option("--inputs", options.inputs,
                  "Safetensors file with input0, input1, ..., and maybe the expected output")
      ->required()
      ->check(CLI::ExistingFile);
}

int check(const ModelOptions& options) {
  const auto model = options.load();
  const Safetensors file = load_safetensors(options.inputs);
  const Inputs inputs = moved(inputs_of(file), *model);
  at::NoGradGuard no_grad;
  const at::Tensor expected = expected_output(options, file, inputs);
  const double output_difference = largest_difference(model->record(inputs).output(), expected);
  json sites = json::array();
  if (!options.json) fmt::print("output: largest difference {:g}\n", output_difference);
  for (const std::string& name : options.sites_of(*model)) {
    Recording recording;
    const double record_seconds = seconds_of([&] { recording = model->record(inputs, {name}); });
    if (!recording.has(name)) continue;  // its value is None on these inputs
    at::Tensor output;
    const double resume_seconds =
        seconds_of([&] { output = model->resume(recording, name, recording.state(name)); });
    const double difference = largest_difference(output, recording.output());
    sites.push_back({{"name", name},
                     {"resume_difference", difference},
                     {"record_seconds", record_seconds},
                     {"resume_seconds", resume_seconds}});
    if (!options.json) {
      fmt::print("{:<48} difference {:g}, recorded in {:.4f} s, resumed in {:.4f} s\n", name,
                 difference, record_seconds, resume_seconds);
    }
  }
  if (options.json) {
    fmt::print("{}\n", json{{"output_difference", output_difference}, {"sites", sites}}.dump(2));
  }
  return 0;
}

}  // namespace diffmask::cli
