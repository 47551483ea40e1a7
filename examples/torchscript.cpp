// Explains a model from a file: at which layer are which positions needed?
//
//   ./examples/run torchscript bert.pt data.safetensors --sites 'bert.encoder.layer.*'
//
// The data file holds the model's inputs for all examples as input0, input1, ..., padded to one
// length, and the examples' own lengths as `lengths` where they differ. Prints how much of each
// site can be masked while the output stays within epsilon, and the first example's heatmap.
#include <CLI/CLI.hpp>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/program/exported.hpp"
#include "diffmask/report/heatmap.hpp"
#include "program.hpp"

namespace dm = diffmask;

int main(int argc, char** argv) {
  CLI::App app("DiffMask for a model in a file");
  std::string path, data, pattern = "*";
  dm::TrainerOptions trainer{.epsilon = 0.1, .steps = 500};
  app.add_option("model", path, "TorchScript archive or .pt2")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("data", data, "Safetensors file of inputs")->required()->check(CLI::ExistingFile);
  app.add_option("--sites", pattern, "Hidden states to explain")->capture_default_str();
  app.add_option("--epsilon", trainer.epsilon, "Divergence allowed")->capture_default_str();
  app.add_option("--steps", trainer.steps, "Training steps")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return reported("torchscript", [&] {
    const auto model = dm::load_program(path);
    const dm::Safetensors file = dm::load_safetensors(data);
    const at::Tensor& first = file.at("input0");
    std::vector<dm::PaddedDataset::Column> columns;
    for (size_t i = 0; file.tensors.contains(fmt::format("input{}", i)); ++i) {
      const at::Tensor& input = file.at(fmt::format("input{}", i));
      columns.push_back({input, input.dim() > 1 && input.size(1) == first.size(1)});
    }
    const at::Tensor lengths = file.tensors.contains("lengths")
                                   ? file.at("lengths")
                                   : at::full({first.size(0)}, first.size(1), at::kLong);
    const dm::PaddedDataset dataset(columns, lengths, {}, /*mask_is_input=*/false);

    dm::DiffMask method(model, {.sites = model->select(pattern)});
    fmt::print("{}", method.fit(dataset, trainer, {dm::progress_bar("explainer")}).full_report());
    const dm::Attribution attribution = method.attribute(dataset.batch({0}));
    std::vector<std::string> positions;
    for (int64_t t = 0; t < dataset.length(0); ++t) positions.push_back(fmt::format("{}", t));
    fmt::print("{}",
               dm::terminal_heatmap(dm::heatmap(attribution, 0, positions, "example 0"), true));
    return 0;
  });
}
