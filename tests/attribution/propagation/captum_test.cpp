// Captum's own values of the same models.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/attribution/gradient/integrated_gradients.hpp"
#include "tests/captum.hpp"

namespace diffmask {
namespace {

constexpr double kTolerance = 1e-4;

TEST(CaptumTest, GivesTheSameValues) {
  for_each_captum_model([](const CaptumModel& captum) {
    const auto& model = captum.model;
    const Batch& batch = captum.batch;
    EXPECT_LT(relative_difference(model->record(batch.inputs).output(), captum.truth.at("output")),
              1e-5);

    AttributionOptions options{.sites = {captum.site}, .positions = {captum.positions}};
    options.passes.max_batch = 10;  // so that chunks end within an example
    EXPECT_LT(relative_difference(Gradient(model, options).attribute(batch).features[0],
                                  captum.value("saliency")),
              kTolerance);
    EXPECT_LT(relative_difference(GradientTimesInput(model, options).attribute(batch).features[0],
                                  captum.value("input_x_gradient")),
              kTolerance);
    options.fill = fill::given({{captum.site, captum.truth.at("baseline")}});
    const auto integrated =
        IntegratedGradients(model, options, {.steps = 50, .tolerance = 0}).attribute(batch);
    EXPECT_LT(relative_difference(integrated.features[0], captum.value("integrated_gradients")),
              kTolerance);
    const at::Tensor drops = LeaveOneOut(model, options).attribute(batch).scores.select(2, 0);
    EXPECT_LT(relative_difference(drops, captum.value("feature_ablation")), kTolerance);
  });
}

}  // namespace
}  // namespace diffmask
