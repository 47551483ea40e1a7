// The program `diffmask`: what the library does, for models in files.
//
//   diffmask sites MODEL                    the hidden states that can be recorded and replaced
//   diffmask check MODEL --inputs FILE      whether resuming gives what the model gives
//   diffmask attribute MODEL --method NAME --inputs FILE --out FILE    what the output rests on
//   diffmask compare MODEL --inputs FILE    all methods by all metrics
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "cli/attribute.hpp"
#include "cli/compare.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/program/exported.hpp"
#include "diffmask/report/comparison_report.hpp"

#include <torch/script.h>

namespace dm = diffmask;
using nlohmann::json;

namespace {

constexpr std::pair<const char*, at::ScalarType> kDtypes[] = {
    {"float32", at::kFloat}, {"float64", at::kDouble}, {"int64", at::kLong},
    {"int32", at::kInt},     {"bool", at::kBool},      {"float16", at::kHalf}};

std::string dtype_name(at::ScalarType dtype) {
  for (const auto& [name, value] : kDtypes) {
    if (value == dtype) return name;
  }
  return c10::toString(dtype);
}

// The tensors input0, input1, ... of a file.
dm::Inputs inputs_of(const dm::Safetensors& file) {
  dm::Inputs inputs;
  while (file.tensors.contains(fmt::format("input{}", inputs.size()))) {
    inputs.push_back(file.at(fmt::format("input{}", inputs.size())));
  }
  dm::require(!inputs.empty(), "--inputs", "a file with a tensor 'input0'", "one without");
  return inputs;
}

// "int64[2,7];float32[2,7]": zeros of these shapes.
dm::Inputs inputs_of_spec(const std::string& spec) {
  if (std::filesystem::exists(spec)) return inputs_of(dm::load_safetensors(spec));
  dm::Inputs inputs;
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
  dm::require(!inputs.empty() && read == spec.size(), "--inputs",
              "a safetensors file, or shapes such as 'int64[2,7];float32[2,7]'",
              fmt::format("'{}'", spec));
  return inputs;
}

template <typename Work>
double seconds_of(const Work& work) {
  const auto began = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

struct Options {
  std::string model, inputs, pattern = "**", output;
  bool json = false, module_inputs = false;
  dm::cli::AttributeOptions attribute;
  dm::cli::CompareOptions compare;
};

// Debian's LibTorch takes any BLAS, and the reference one is some 70 times slower than OpenBLAS.
void warn_of_slow_blas() {
  constexpr double kSlow = 6e9;  // operations a second; 2.7e9 and 183e9 were measured
  const at::Tensor a = at::ones({256, 256});
  double best = INFINITY;
  for (int i = 0; i < 5; ++i) best = std::min(best, seconds_of([&] { at::mm(a, a); }));
  if (2.0 * 256 * 256 * 256 / best > kSlow) return;
  fmt::print(stderr,
             "diffmask: LibTorch multiplies matrices slowly here ({:.1f} GFLOP/s). On Debian, "
             "install libopenblas0-pthread.\n",
             2e-9 * 256 * 256 * 256 / best);
}

// The sites that were asked for; a model may have none at all.
std::vector<std::string> chosen_sites(const dm::Program& model, const Options& options) {
  if (model.sites().empty()) return {};
  return model.select(options.pattern);
}

int list_sites(const Options& options) {
  const auto model = dm::load_program(options.model, {options.output, options.module_inputs});
  std::optional<dm::Recording> recording;
  if (!options.inputs.empty()) recording = model->record(inputs_of_spec(options.inputs));
  json table = json::array();
  if (!options.json) {
    fmt::print("{:>5}  {:<48} {:<24} {:<20} {}\n", "step", "site", "module", "shape", "dtype");
  }
  for (const std::string& name : chosen_sites(*model, options)) {
    const dm::Site& site = model->site(name);
    json row{{"name", site.name}, {"type", site.type}, {"shape", nullptr}, {"dtype", nullptr}};
    if (recording && recording->has(name)) {
      row["shape"] = recording->state(name).sizes().vec();
      row["dtype"] = dtype_name(recording->state(name).scalar_type());
    }
    if (!options.json) {
      fmt::print("{:>5}  {:<48} {:<24} {:<20} {}\n", site.step, site.name, site.type,
                 row["shape"].is_null() ? "" : row["shape"].dump(),
                 row["dtype"].is_null() ? "" : row["dtype"].get<std::string>());
    }
    table.push_back(std::move(row));
  }
  if (options.json) fmt::print("{}\n", table.dump(2));
  return 0;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  dm::check_shape("output", a, b.sizes());
  if (a.numel() == 0) return 0.0;
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

// What the model itself gives: known from the file, or by Module::forward.
at::Tensor expected_output(const Options& options, const dm::Safetensors& file,
                           const dm::Inputs& inputs) {
  if (file.tensors.contains("output")) return file.at("output");
  dm::require(!dm::is_exported(options.model), "--inputs",
              "a file with the expected 'output', where the model is an exported program",
              "one without");
  torch::jit::Module module = torch::jit::load(options.model);
  c10::IValue output = module.forward({inputs.begin(), inputs.end()});
  while (output.isTuple()) output = c10::IValue(output.toTuple()->elements().at(0));
  dm::require(output.isTensor(), "the model's output", "a tensor, or a tuple that begins with one",
              output.tagKind());
  return output.toTensor();
}

int check(const Options& options) {
  const auto model = dm::load_program(options.model, {options.output, options.module_inputs});
  const dm::Safetensors file = dm::load_safetensors(options.inputs);
  const dm::Inputs inputs = inputs_of(file);
  at::NoGradGuard no_grad;
  const at::Tensor expected = expected_output(options, file, inputs);
  const double output_difference = largest_difference(model->record(inputs).output(), expected);
  json sites = json::array();
  if (!options.json) fmt::print("output: largest difference {:g}\n", output_difference);
  for (const std::string& name : chosen_sites(*model, options)) {
    dm::Recording recording;
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

int attribute(const Options& options) {
  const auto model = dm::load_program(options.model, {options.output, options.module_inputs});
  const dm::Safetensors file = dm::load_safetensors(options.inputs);
  const json result = dm::cli::attribute(model, inputs_of(file), file,
                                         chosen_sites(*model, options), options.attribute);
  if (options.json) {
    fmt::print("{}\n", result.dump(2));
    return 0;
  }
  for (const json& site : result["sites"]) {
    fmt::print("{:<48} {}{}{}\n", site["name"].get<std::string>(), site["shape"].dump(),
               site.contains("largest_gap") ? ", largest gap " + site["largest_gap"].dump() : "",
               site.contains("proven") ? ", proven for " + site["proven"].dump() : "");
  }
  fmt::print("{} passes in {:.1f} s; wrote {}\n", result["passes"].dump(),
             result["seconds"].get<double>(), options.attribute.out);
  return 0;
}

int compare(const Options& options) {
  const auto model = dm::load_program(options.model, {options.output, options.module_inputs});
  const dm::Safetensors file = dm::load_safetensors(options.inputs);
  const auto comparison = dm::cli::compare(model, inputs_of(file), file,
                                           chosen_sites(*model, options), options.compare);
  dm::cli::write_comparison(comparison, options.model, options.compare);
  fmt::print("{}",
             options.json ? dm::json_comparison(comparison) : dm::markdown_comparison(comparison));
  return 0;
}

void add_compare(CLI::App& command, Options& options) {
  dm::cli::CompareOptions& own = options.compare;
  command
      .add_option("--inputs", options.inputs,
                  "Safetensors file with input0, input1, ... [mask (B, P) bool]")
      ->required()
      ->check(CLI::ExistingFile);
  command.add_option("--methods", own.methods, "Which; all if none is named")
      ->delimiter(',')
      ->check(CLI::IsMember(dm::method_names()));
  command.add_option("--explainer", own.explainers, "Files of DiffMask's explainers")
      ->check(CLI::ExistingFile);
  command
      .add_option("--baseline", own.baseline,
                  "What replaces a state: zero, mean, other (another example's), or a safetensors "
                  "file with a tensor a site")
      ->capture_default_str();
  command.add_option("--keep-rates", own.keep_rates, "Shares kept by all methods alike")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--epsilon", own.epsilon, "Divergence allowed, in nats")
      ->capture_default_str();
  command.add_option("--steps", own.steps, "Of integrated gradients")->capture_default_str();
  command.add_option("--beam", own.beam, "Of beam search")->capture_default_str();
  command.add_option("--budget", own.budget, "Passes an example of exact and of random search")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--seeds", own.seeds, "Runs")->capture_default_str();
  command.add_option("--seed", own.seed, "The first one")->capture_default_str();
  command.add_option("--batch-size", own.batch_size, "Examples a batch")->capture_default_str();
  command.add_option("--max-batch", own.max_batch, "Rows a pass")->capture_default_str();
  command.add_option("--markdown", own.markdown, "Write tables here");
  command.add_option("--json-file", own.json, "Write figures and curves here");
  command.add_option("--html", own.html, "Write a page here");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("DiffMask: which inputs and hidden states a network's decision needs");
  app.require_subcommand(1);
  Options options;
  int64_t threads = 2;
  const auto common = [&](CLI::App& command) {
    command
        .add_option("model", options.model, "TorchScript archive, or an exported program (.pt2)")
        ->required()
        ->check(CLI::ExistingFile);
    command.add_option("--sites", options.pattern, "Which: '*' stops at dots, '**' does not")
        ->capture_default_str();
    command.add_option("--output", options.output, "Which tensor of a structured output: '[0]'");
    command.add_flag("--module-inputs", options.module_inputs, "Sites at modules' inputs too");
    command.add_flag("--json", options.json, "Print JSON");
    command.add_option("--threads", threads, "Threads")->check(CLI::PositiveNumber);
  };
  CLI::App* sites = app.add_subcommand("sites", "List the hidden states that can be tapped");
  common(*sites);
  sites->add_option("--inputs", options.inputs,
                    "Inputs to show shapes for: a safetensors file with input0, input1, ..., or "
                    "shapes such as 'int64[2,7];float32[2,7]'");
  CLI::App* checks = app.add_subcommand("check", "Compare resumed outputs with the model's own");
  common(*checks);
  checks
      ->add_option("--inputs", options.inputs, "Safetensors file with input0, input1, ... [output]")
      ->required()
      ->check(CLI::ExistingFile);
  CLI::App* explains = app.add_subcommand("attribute", "Explain an output at chosen sites");
  common(*explains);
  dm::cli::AttributeOptions& own = options.attribute;
  explains->add_option("--method", own.method, "How")
      ->required()
      ->check(CLI::IsMember(dm::method_names()));
  explains
      ->add_option("--inputs", options.inputs,
                   "Safetensors file with input0, input1, ... [mask (B, P) bool]")
      ->required()
      ->check(CLI::ExistingFile);
  explains->add_option("--out", own.out, "Safetensors file to write: scores (B, positions) a site")
      ->required();
  explains->add_option("--target", own.target, "Class to explain; by default the predicted one")
      ->check(CLI::NonNegativeNumber);
  explains
      ->add_option("--baseline", own.baseline,
                   "What replaces a state: zero, mean (of these inputs' states), or a safetensors "
                   "file with a tensor a site")
      ->capture_default_str();
  explains->add_flag("--features", own.features, "Write unsummed scores (B, ..., features)");
  explains->add_option("--steps", own.steps, "Of integrated gradients")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  explains->add_option("--beam", own.beam, "Of beam search")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  explains->add_option("--max-batch", own.max_batch, "Rows a pass")->capture_default_str();
  explains->add_option("--memory", own.memory_mb, "MB that a pass may take; 0: any")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 32))
      ->capture_default_str();
  explains->add_option("--seed", own.seed, "Of random methods")->capture_default_str();
  CLI::App* compares = app.add_subcommand("compare", "Measure the methods at chosen sites");
  common(*compares);
  add_compare(*compares, options);
  CLI11_PARSE(app, argc, argv);
  try {
    at::set_num_threads(static_cast<int>(threads));
    warn_of_slow_blas();
    if (sites->parsed()) return list_sites(options);
    if (compares->parsed()) return compare(options);
    return checks->parsed() ? check(options) : attribute(options);
  } catch (const c10::Error& error) {
    fmt::print(stderr, "diffmask: {}\n", error.what_without_backtrace());
  } catch (const std::exception& error) {
    fmt::print(stderr, "diffmask: {}\n", error.what());
  }
  return 1;
}
