#include "diffmask/metrics/robustness.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/attribution/erasure/erasure.hpp"
#include "tests/attribution/example_nets.hpp"
#include "tests/bad_input.hpp"
#include "tests/metrics/reals.hpp"

namespace diffmask {
namespace {

at::Tensor all_positions(const at::Tensor& values) { return at::ones(values.sizes(), at::kBool); }

TEST(SensitivityTest, IsTheLargestRelativeChange) {
  // s(h) = 2 h: || 2 d || / || 2 h || for the larger d.
  const at::Tensor state = reals({3, 4, 0, 0}).view({2, 2});
  const at::Tensor changes = reals({1, 0, 5, 0, 0, 2, 0, 7}).view({2, 2, 2});
  const at::Tensor result =
      sensitivity_max([](const at::Tensor& h) { return 2 * h; }, state, changes);
  EXPECT_NEAR(result[0].item<double>(), 2.0 / 5.0, 1e-12);
  EXPECT_NEAR(result[1].item<double>(), 14.0, 1e-12) << "is not divided by a norm of 0";
}

TEST(SensitivityTest, DrawsPerturbationsWithinTheRadius) {
  const at::Tensor state = at::zeros({3, 4, 2}, at::kDouble);
  const at::Tensor drawn = uniform_perturbations(state, 50, 0.1, make_generator(1));
  EXPECT_EQ(drawn.sizes(), at::IntArrayRef({50, 3, 4, 2}));
  EXPECT_LE(drawn.abs().max().item<double>(), 0.1);
  EXPECT_GT(drawn.abs().max().item<double>(), 0.099);
  EXPECT_TRUE(drawn.equal(uniform_perturbations(state, 50, 0.1, make_generator(1))));
}

// At a hidden site a method explains the perturbed states as it does the model's own.
TEST(ExplanationTest, IsTheMethodsOwnAtTheOriginalState) {
  const auto model = smooth_net(5, 3, 3, 2);
  const Batch batch = batch_of(at::randn({4, 5, 3}, make_generator(3)));
  AttributionOptions options;
  options.sites = {"copy"};
  options.passes.max_batch = 3;
  for (const auto& make :
       std::vector<std::function<std::unique_ptr<Attributor>(std::shared_ptr<const FrozenModel>)>>{
           [&](auto m) { return std::make_unique<LeaveOneOut>(m, options); },
           [&](auto m) { return std::make_unique<GradientTimesInput>(m, options); }}) {
    const Explanation explain = explanation_at(
        model, batch, "copy", [&](auto m, const Batch& rows) { return make(m)->attribute(rows); });
    const at::Tensor state = batch.inputs[0];
    EXPECT_TRUE(at::allclose(explain(state), make(model)->attribute(batch).scores.select(2, 0),
                             1e-5, 1e-6));
    const at::Tensor moved = state + 0.1;
    EXPECT_TRUE(at::allclose(
        explain(moved), make(model)->attribute(batch_of(moved)).scores.select(2, 0), 1e-5, 1e-6));
  }
}

TEST(RowSpearmanTest, ComparesExplainedPositionsRowByRow) {
  const at::Tensor a = torch::tensor(
      {{1.0, 2.0, 3.0, 9.0}, {1.0, 2.0, 3.0, 4.0}, {1.0, 1.0, 1.0, 0.0}}, at::kDouble);
  const at::Tensor b = torch::tensor(
      {{3.0, 2.0, 1.0, 5.0}, {2.0, 4.0, 8.0, 16.0}, {1.0, 2.0, 3.0, 0.0}}, at::kDouble);
  at::Tensor mask = all_positions(a);
  mask[0][3] = false;
  mask[2][3] = false;
  const at::Tensor rho = row_spearman(a, b, mask);
  EXPECT_NEAR(rho[0].item<double>(), -1, 1e-12);
  EXPECT_NEAR(rho[1].item<double>(), 1, 1e-12);
  EXPECT_TRUE(std::isnan(rho[2].item<double>())) << "constant scores rank nothing";
}

TEST(TopAgreementTest, IsTheShareInCommon) {
  const at::Tensor a = torch::tensor({{4.0, 3.0, 2.0, 1.0}, {4.0, 3.0, 2.0, 1.0}}, at::kDouble);
  const at::Tensor b = torch::tensor({{4.0, 1.0, 3.0, 2.0}, {1.0, 2.0, 3.0, 4.0}}, at::kDouble);
  EXPECT_TRUE(top_agreement(a, b, all_positions(a), 0.5).equal(reals({0.5, 0})));
  EXPECT_TRUE(top_agreement(a, b, all_positions(a), 1).equal(reals({1, 1})));
}

TEST(RobustnessTest, RefusesBadInput) {
  const at::Tensor h = at::ones({2, 2});
  const auto same = [](const at::Tensor& x) { return x; };
  expect_refused({
      {"no function", [&] { sensitivity_max(nullptr, h, h.unsqueeze(0)); }, "explain"},
      {"perturbations", [&] { sensitivity_max(same, h, h); }, "perturbations"},
      {"count", [&] { uniform_perturbations(h, 0, 1, make_generator(1)); }, "count has to be >= 1"},
      {"radius", [&] { uniform_perturbations(h, 1, 0, make_generator(1)); },
       "radius has to be > 0"},
      {"mask", [&] { row_spearman(h, h, h); }, "mask"},
      {"shape",
       [&] {
         row_spearman(h, at::ones({2, 3}), all_positions(h));
       },
       "b has to be"},
      {"share", [&] { top_agreement(h, h, all_positions(h), -1); }, "share has to be in [0, 1]"},
  });
}

}  // namespace
}  // namespace diffmask
