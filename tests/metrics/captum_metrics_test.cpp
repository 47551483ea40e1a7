// Captum's own values of infidelity and sensitivity-max, with the perturbations that
// tests/reference/captum_values.py fixes. DIFFMASK_CAPTUM names its folder.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdlib>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/metrics/faithfulness.hpp"
#include "diffmask/metrics/robustness.hpp"
#include "diffmask/model/script.hpp"

namespace diffmask {
namespace {

constexpr double kTolerance = 1e-5;

struct Golden {
  std::string net, suffix, site;
  Positions positions = {};
};

const std::vector<Golden> kGolden = {
    {"mlp", "", "input"},
    {"cnn", "", "input", {Positions::Layout::image, 1}},
    {"gru", "", "input"},
    {"bert", "", "bert.embeddings"},
    {"bert", "/hidden", "bert.encoder.layer.3"},
};

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return ((x - y).abs().max() / y.abs().max()).item<double>();
}

TEST(CaptumMetricsTest, GiveTheSameValues) {
  const char* given = std::getenv("DIFFMASK_CAPTUM");
  if (!given) GTEST_SKIP() << "DIFFMASK_CAPTUM is not set (see tests/reference/captum_values.py)";
  for (const Golden& golden : kGolden) {
    SCOPED_TRACE(golden.net + golden.suffix);
    const std::string base = std::string(given) + "/" + golden.net;
    const auto model = load_script(base + ".ts");
    const Safetensors truth = load_safetensors(base + ".safetensors");
    const auto value = [&](const std::string& name) { return truth.at(name + golden.suffix); };
    Batch batch{{truth.at("input0")}, {}, {}, {}};
    if (truth.tensors.contains("input1")) batch.inputs.push_back(truth.at("input1"));
    batch.mask = at::ones(value("feature_ablation").sizes(), at::kBool);
    FaithfulnessOptions options;
    options.site = golden.site;
    options.positions = golden.positions;
    options.target = target::predicted;
    options.passes.max_batch = 6;  // so that chunks end within a perturbation
    FaithfulnessMeter meter(*model, batch, options);
    for (const bool scaled : {false, true}) {
      EXPECT_LT(
          relative_difference(meter.infidelity(value("saliency"), value("perturbations"), scaled),
                              value(scaled ? "infidelity/normalize" : "infidelity")),
          kTolerance);
    }
    // The gradient at a state is that of a model whose state is replaced.
    const Recording& recording = meter.recording();
    const auto gradient = [&](const at::Tensor& state) {
      const at::AutoGradMode with_gradients(true);
      const at::Tensor leaf = state.detach().requires_grad_(true);
      const at::Tensor y =
          target::predicted(model->resume(recording, golden.site, leaf), recording.output());
      return torch::autograd::grad({y.sum()}, {leaf})[0];
    };
    EXPECT_LT(relative_difference(
                  sensitivity_max(gradient, recording.state(golden.site), value("perturbations")),
                  value("sensitivity_max")),
              kTolerance);
  }
}

}  // namespace
}  // namespace diffmask
