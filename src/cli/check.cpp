#include "cli/check.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/script.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/progress.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/program/exported.hpp"

namespace diffmask::cli {
namespace {

using nlohmann::json;

// Equal infinities do not differ; NaN where a NaN is in either.
double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  check_shape("output", a, b.sizes());
  if (a.numel() == 0) return 0.0;
  const at::Tensor x = a.cpu().to(at::kDouble), y = b.cpu().to(at::kDouble);
  return at::where(x == y, at::zeros_like(x), (x - y).abs()).max().item<double>();
}

// Up to what rounding may do: the square root of the dtype's step, 3e-4 in float32, of the largest
// finite number.
double allowed_difference(const at::Tensor& output) {
  const double step = output.scalar_type() == at::kDouble     ? 2.2e-16
                      : output.scalar_type() == at::kHalf     ? 9.8e-4
                      : output.scalar_type() == at::kBFloat16 ? 7.8e-3
                                                              : 1.2e-7;
  if (output.numel() == 0) return 0;
  const at::Tensor values = output.to(at::kDouble);
  const at::Tensor finite = at::where(values.isfinite(), values, at::zeros_like(values));
  return std::sqrt(step) * std::max(1.0, finite.abs().max().item<double>());
}

// A difference in JSON, which has neither infinities nor NaN.
json number_or_text(double value) {
  return std::isfinite(value) ? json(value) : json(fmt::format("{}", value));
}

// What the model itself gives: known from the file, or by Module::forward.
at::Tensor expected_output(const ModelOptions& options, const Safetensors& file,
                           const Inputs& inputs) {
  if (file.has("output")) return file.at("output");
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
  const Safetensors file = load_safetensors(options.inputs);
  const auto given = static_cast<int64_t>(inputs_of(file).size());
  const auto model = options.load(given);
  const Inputs inputs = moved(inputs_of(file), *model);
  at::NoGradGuard no_grad;
  const Recording original = model->record(inputs);
  const at::Tensor expected = expected_output(options, file, inputs);
  const double output_difference = largest_difference(original.output(), expected);
  const double allowed = allowed_difference(expected);
  const double by_chance =
      model->chance().empty()
          ? 0.0
          : largest_difference(options.load(given, /*seed=*/1)->record(inputs).output(),
                               original.output());
  std::vector<std::string> failed;
  // What is drawn is no reason to fail: the expected output was drawn, too.
  if (!(output_difference <= allowed) && model->chance().empty()) failed.push_back("the output");
  json sites = json::array();
  std::string text = fmt::format("output: largest difference {:g}\n", output_difference);
  if (!model->chance().empty()) {
    text += fmt::format("passes differ by chance: by {:g} with another seed ({})\n", by_chance,
                        fmt::join(model->chance(), "; "));
  }
  const std::vector<std::string> names = options.sites_of(*model);
  const ProgressLine progress;
  size_t done = 0;
  for (const std::string& name : names) {
    progress.show(done++, names.size(), name);
    Recording recording;
    const double record_seconds = seconds_of([&] { recording = model->record(inputs, {name}); });
    if (!recording.has(name)) continue;  // its value is None on these inputs
    at::Tensor output;
    const double resume_seconds =
        seconds_of([&] { output = model->resume(recording, name, recording.state(name)); });
    const double difference = largest_difference(output, recording.output());
    if (!(difference <= allowed)) failed.push_back(fmt::format("site '{}'", name));
    sites.push_back({{"name", name},
                     {"resume_difference", number_or_text(difference)},
                     {"record_seconds", record_seconds},
                     {"resume_seconds", resume_seconds}});
    text += fmt::format("{:<48} difference {:g}, recorded in {:.4f} s, resumed in {:.4f} s\n", name,
                        difference, record_seconds, resume_seconds);
  }
  json result{{"output_difference", number_or_text(output_difference)}, {"sites", sites}};
  if (!model->chance().empty()) {
    result["chance_difference"] = number_or_text(by_chance);
    result["chance"] = model->chance();
  }
  progress.show("");
  fmt::print("{}", options.json ? result.dump(2) + "\n" : text);
  if (failed.empty()) return 0;
  fmt::print(stderr, "diffmask: differs by more than {:g}, or is not finite: {}\n", allowed,
             fmt::join(failed, ", "));
  return 1;
}

}  // namespace diffmask::cli
