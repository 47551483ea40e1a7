// Explains a model from a file: at which layer are which positions needed?
//
//   ./examples/run torchscript bert.pt data.safetensors --sites 'bert.encoder.layer.*'
//
// The data file holds the model's inputs for all examples as input0, input1, ..., padded to one
// length, and the examples' own lengths as `lengths` where they differ. Prints how much of each
// site can be masked while the output stays within epsilon, and the first example's heatmap.
// Expect fewer positions the later the site.
#include <torch/csrc/jit/api/module.h>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/program/exported.hpp"
#include "diffmask/report/heatmap.hpp"
#include "program.hpp"

namespace dm = diffmask;

namespace {

dm::PaddedDataset read_data(const std::string& path) {
  const dm::Safetensors file = dm::load_safetensors(path);
  const at::Tensor& first = file.at("input0");
  std::vector<dm::PaddedDataset::Column> columns;
  for (size_t i = 0; file.tensors.contains(fmt::format("input{}", i)); ++i) {
    const at::Tensor& input = file.at(fmt::format("input{}", i));
    columns.push_back({input, input.dim() > 1 && input.size(1) == first.size(1)});
  }
  const at::Tensor lengths = file.tensors.contains("lengths")
                                 ? file.at("lengths")
                                 : at::full({first.size(0)}, first.size(1), at::kLong);
  return dm::PaddedDataset(columns, lengths, {}, /*mask_is_input=*/false);
}

// For a quick run: a model with one layer of a name, and 64 examples of five positions.
void make_files(const std::string& model, const std::string& data) {
  torch::jit::Module layer("Layer"), net("Net");
  for (torch::jit::Module* module : {&layer, &net}) {
    module->register_attribute("training", c10::BoolType::get(), false);
  }
  layer.define("def forward(self, x):\n  return torch.tanh(x)\n");
  net.register_module("layer", layer);
  net.define("def forward(self, x):\n  return 3 * torch.sum(self.layer.forward(x), 1)\n");
  net.save(model);
  dm::save_safetensors(data, {{"input0", at::randn({64, 5, 2}, dm::make_generator(0))}});
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("DiffMask for a model in a file");
  std::string path, data, pattern = "*";
  bool smoke = false;
  dm::TrainerOptions trainer{.epsilon = 0.1, .steps = 500};
  trainer.callbacks = {dm::progress_bar("explainer")};
  app.add_option("model", path, "TorchScript archive or .pt2");
  app.add_option("data", data, "Safetensors file of inputs");
  add_option(app, "--sites", pattern, "Hidden states to explain");
  add_option(app, "--epsilon", trainer.epsilon, "Divergence allowed, in nats");
  add_option(app, "--steps", trainer.steps, "Training steps");
  app.add_flag("--smoke", smoke, "A quick run of a few steps on a small model, which it writes");
  CLI11_PARSE(app, argc, argv);
  return reported("torchscript", [&] {
    if (smoke) {
      path = "model.pt", data = "data.safetensors", trainer.steps = 10;
      make_files(path, data);
    }
    dm::require(!path.empty() && !data.empty(), "arguments", "a model and a file of data", "fewer");
    const auto model = dm::load_program(path);
    const dm::PaddedDataset dataset = read_data(data);
    dm::DiffMask method(model, {.sites = model->select(pattern)});
    fmt::print("{}", method.fit(dataset, trainer).full_report());
    std::vector<std::string> names;
    for (int64_t t = 0; t < dataset.length(0); ++t) names.push_back(fmt::format("{}", t));
    const auto map = dm::heatmap(method.attribute(dataset.batch({0})), 0, names, "example 0");
    fmt::print("{}", dm::terminal_heatmap(map, /*colour=*/true));
    return 0;
  });
}
