// Captum's own values of the same models, which tests/reference/captum_values.py makes.
// DIFFMASK_CAPTUM names its folder.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/attribution/erasure.hpp"
#include "diffmask/attribution/integrated_gradients.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/model/script.hpp"

namespace diffmask {
namespace {

constexpr double kTolerance = 1e-4;

struct Golden {
  std::string net, suffix, site;  // suffix of the tensors' names
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
  if (a.sizes() != b.sizes()) return INFINITY;
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

TEST(CaptumTest, GivesTheSameValues) {
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
    const at::Tensor ablated = value("feature_ablation");
    batch.mask = at::ones(ablated.sizes(), at::kBool);
    EXPECT_LT(relative_difference(model->record(batch.inputs).output(), truth.at("output")), 1e-5);

    AttributionOptions options{.sites = {golden.site}, .positions = {golden.positions}};
    options.passes.max_batch = 10;  // so that chunks end within an example
    EXPECT_LT(relative_difference(Gradient(model, options).attribute(batch).features[0],
                                  value("saliency")),
              kTolerance);
    EXPECT_LT(relative_difference(GradientTimesInput(model, options).attribute(batch).features[0],
                                  value("input_x_gradient")),
              kTolerance);
    options.fill = fill::given({{golden.site, truth.at("baseline")}});
    const auto integrated =
        IntegratedGradients(model, options, {.steps = 50, .tolerance = 0}).attribute(batch);
    EXPECT_LT(relative_difference(integrated.features[0], value("integrated_gradients")),
              kTolerance);
    const at::Tensor drops = LeaveOneOut(model, options).attribute(batch).scores.select(2, 0);
    EXPECT_LT(relative_difference(drops, ablated), kTolerance);
  }
}

}  // namespace
}  // namespace diffmask
