// Captum's own values of infidelity and sensitivity-max, with the perturbations that
// tests/reference/captum_values.py fixes.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/metrics/faithfulness.hpp"
#include "diffmask/metrics/robustness.hpp"
#include "tests/captum.hpp"

namespace diffmask {
namespace {

constexpr double kTolerance = 1e-5;

TEST(CaptumMetricsTest, GiveTheSameValues) {
  for_each_captum_model([](const CaptumModel& captum) {
    FaithfulnessOptions options;
    options.site = captum.site;
    options.positions = captum.positions;
    options.target = target::predicted;
    options.passes.max_batch = 6;  // so that chunks end within a perturbation
    FaithfulnessMeter meter(*captum.model, captum.batch, options);
    for (const bool scaled : {false, true}) {
      EXPECT_LT(relative_difference(meter.infidelity(captum.value("saliency"),
                                                     captum.value("perturbations"), scaled),
                                    captum.value(scaled ? "infidelity/normalize" : "infidelity")),
                kTolerance);
    }
    // The gradient at a state is that of a model whose state is replaced.
    const Recording& recording = meter.recording();
    const auto gradient = [&](const at::Tensor& state) {
      const at::AutoGradMode with_gradients(true);
      const at::Tensor leaf = state.detach().requires_grad_(true);
      const at::Tensor y =
          target::predicted(captum.model->resume(recording, captum.site, leaf), recording.output());
      return torch::autograd::grad({y.sum()}, {leaf})[0];
    };
    EXPECT_LT(relative_difference(sensitivity_max(gradient, recording.state(captum.site),
                                                  captum.value("perturbations")),
                                  captum.value("sensitivity_max")),
              kTolerance);
  });
}

}  // namespace
}  // namespace diffmask
