// Real architectures against what PyTorch's own hooks saw and its autograd gave: the zoo that
// tests/reference/zoo.py makes. DIFFMASK_ZOO names its folder. On the device that DIFFMASK_DEVICE
// names, to rounding.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <nlohmann/json.hpp>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/libtorch.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/program/exported.hpp"
#include "tests/test_device.hpp"

namespace diffmask::zoo_test {
namespace {

Inputs inputs_of(const Safetensors& file) {
  Inputs inputs;
  while (file.tensors.contains(fmt::format("input{}", inputs.size()))) {
    inputs.push_back(file.at(fmt::format("input{}", inputs.size())).to(test_device()));
  }
  return inputs;
}

constexpr bool kHasFusedAttention = DIFFMASK_TORCH_AT_LEAST(2, 0);
double gradient_tolerance() { return test_device().is_cpu() ? 1e-5 : 1e-3; }

// The zoo is made by torch 2.13, so LibTorch 2.13 gives the same bits. Kernels differ between
// versions in the last ones, oneDNN's LSTM between passes with and without gradients, and a GRU's
// products on an AMD EPYC between this process and Python's (by 1.5e-7; not on every processor).
double state_tolerance(const std::string& name) {
  if (!test_device().is_cpu()) return 1e-4;
  const bool recurrent = name.rfind("lstm", 0) == 0 || name.rfind("gru", 0) == 0;
  return DIFFMASK_TORCH_AT_LEAST(2, 0) && !recurrent ? 0.0 : 1e-6;
}

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  const at::Tensor x = a.cpu().to(at::kDouble), y = b.cpu().to(at::kDouble);
  if (x.numel() == 0) return 0.0;
  const double scale = std::max(1e-3, y.abs().max().item<double>());
  return (x - y).abs().max().item<double>() / scale;
}

std::string without_leaf(const std::string& site) { return site.substr(0, site.find('[')); }

// What the hooks call this state. A trace keeps of a structured output only the tensors that are
// used, so its "layer" or "layer[0]" may be their "layer[1]".
std::string same_state(const Safetensors& truth, const std::string& site, const at::Tensor& state,
                       double tolerance) {
  for (const auto& [key, value] : truth.tensors) {
    if (key.rfind("state/", 0) == 0 && without_leaf(key.substr(6)) == without_leaf(site) &&
        relative_difference(state, value) <= tolerance) {
      return key.substr(6);
    }
  }
  return "";
}

// Every site's state, resumed output and gradient.
void expect_agreement(const Program& model, const Safetensors& truth, double tolerance) {
  const Recording recording = model.record(inputs_of(truth));
  EXPECT_LE(relative_difference(recording.output(), truth.at("output")), tolerance);
  for (const Site& site : model.sites()) {
    SCOPED_TRACE(site.name);
    const at::Tensor& state = recording.state(site.name);
    const std::string seen = same_state(truth, site.name, state, tolerance);
    // Nor did they see what a trace hands out besides a module's one tensor, for its caller to
    // use.
    const bool is_extra = seen.empty() && site.name.find('[') != std::string::npos &&
                          truth.tensors.contains("state/" + without_leaf(site.name));
    if (is_extra) continue;
    EXPECT_NE(seen, "") << "PyTorch's hooks saw no such state";
    EXPECT_LE(relative_difference(model.resume(recording, site.name, state), recording.output()),
              test_device().is_cpu() ? 0.0 : 1e-5);
    const auto gradient = truth.tensors.find("grad/" + seen);
    if (gradient == truth.tensors.end()) continue;
    const at::Tensor leaf = state.clone().requires_grad_(true);
    const at::Tensor value =
        (model.resume(recording, site.name, leaf) * truth.at("cotangent").to(leaf.device())).sum();
    const at::Tensor got = torch::autograd::grad({value}, {leaf})[0];
    EXPECT_LE(relative_difference(got, gradient->second), gradient_tolerance());
  }
}

// Both formats of every model that torch could write in them.
TEST(ZooTest, AgreesWithPyTorch) {
  const char* zoo = std::getenv("DIFFMASK_ZOO");
  if (!zoo) GTEST_SKIP() << "DIFFMASK_ZOO is not set (see tests/reference/zoo.py)";
  const std::string folder = std::string(zoo) + "/";
  size_t loaded = 0, lacking = 0;
  for (const auto& entry : nlohmann::json::parse(read_file(folder + "zoo.json"))) {
    for (const auto& [format, ending] : {std::pair{"script", ".ts"}, {"exported", ".pt2"}}) {
      if (!entry[format].get<bool>()) continue;
      const std::string name = entry["name"];
      SCOPED_TRACE(name + ending);
      std::shared_ptr<Program> model;
      try {
        model = load_program(folder + name + ending, {.device = test_device()});
      } catch (const Error& error) {
        // An older LibTorch loads what its operators allow, and names the others.
        fmt::print("{}{}: {}\n", name, ending, error.what());
        EXPECT_NE(std::string(error.what()).find("scaled_dot_product_attention"), std::string::npos)
            << error.what();
        ++lacking;
        continue;
      }
      ++loaded;
      const double tolerance = state_tolerance(name);
      expect_agreement(*model, load_safetensors(folder + name + ".safetensors"), tolerance);
      if (entry[std::string(format) + "_dynamic"].get<bool>()) {
        const Safetensors other = load_safetensors(folder + name + ".b.safetensors");
        EXPECT_LE(relative_difference(model->record(inputs_of(other)).output(), other.at("output")),
                  tolerance);
      }
    }
  }
  EXPECT_LE(lacking, kHasFusedAttention ? 0 : 6);
  EXPECT_GE(loaded, 1);
}

}  // namespace
}  // namespace diffmask::zoo_test
