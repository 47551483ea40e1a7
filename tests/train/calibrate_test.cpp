// The threshold of hard masks: what it promises, and what it leaves alone.
#include "diffmask/train/calibrate.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/probe/free_logits.hpp"
#include "diffmask/probe/mlp.hpp"
#include "tests/bad_input.hpp"
#include "tests/train/trainer_fixture.hpp"

namespace diffmask {
namespace {

constexpr double kBound = 0.05;

class CalibrateTest : public TrainerTest {
 protected:
  std::vector<double> calibrated(const Explainer& explainer, double bound = kBound,
                                 const CalibrationOptions& options = {}) const {
    RecordedBatches data(*task_.model, *task_.validation, explainer.sites(), {.batch_size = 7});
    return calibrate(*task_.model, explainer, data, divergence::categorical, bound, options);
  }

  MaskBound bound(const Explainer& explainer, int64_t depth, double confidence) const {
    RecordedBatches data(*task_.model, *task_.validation, explainer.sites(), {.batch_size = 7});
    return bound_of(*task_.model, explainer, data, divergence::categorical, depth, confidence);
  }
};

void shift_all(const Explainer& explainer, double by) {
  for (int64_t depth = 0; depth < explainer.depths(); ++depth) {
    EXPECT_TRUE(explainer.probe(depth).shift(by));
  }
}

TEST_F(CalibrateTest, BoundIsMeanAndStandardErrors) {
  const auto explainer = make_explainer(task_);
  shift_all(*explainer, -5);
  const RecordedBatch all =
      recorded(*task_.model, *task_.validation, iota(task_.validation->size()), explainer->sites());
  const Gates gates = explainer->gates(all.recording, all.batch, {1}, Draw::mean)[0];
  const at::Tensor hard = gates.log_keep.exp().gt(0.5).to(at::kFloat);
  double worst = 0;
  for (const at::Tensor& z : {hard, gates.z}) {
    at::NoGradGuard no_grad;
    const at::Tensor rows =
        masked_divergence(*task_.model, *explainer, all, 1, z, divergence::categorical)
            .to(at::kDouble);
    const double error = rows.std(/*unbiased=*/false).item<double>() / std::sqrt(rows.size(0));
    worst = std::max(worst, rows.mean().item<double>() + 1.5 * error);
  }
  const MaskBound now = bound(*explainer, 1, 1.5);
  EXPECT_NEAR(now.divergence, worst, 1e-6);
  EXPECT_NEAR(now.keep, masked_mean(hard, all.batch.mask).item<double>(), 1e-6);
  EXPECT_GT(now.keep, 0.0);
  EXPECT_LT(now.keep, 1.0);
}

TEST_F(CalibrateTest, OpensWhatIsOverTheBound) {
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    const auto explainer = make_explainer(task_, {.masking = masking});
    shift_all(*explainer, -20);
    EXPECT_GT(bound(*explainer, 0, 0).divergence, kBound) << "else there is nothing to mend";
    const std::vector<double> shifts = calibrated(*explainer);
    ASSERT_EQ(shifts.size(), 2u);
    for (int64_t depth = 0; depth < 2; ++depth) {
      EXPECT_GT(shifts[static_cast<size_t>(depth)], 0) << depth;
      EXPECT_LE(bound(*explainer, depth, 2.33).divergence, kBound) << depth;
    }
  }
}

TEST_F(CalibrateTest, MasksMoreWhereTheBoundAllows) {
  const auto explainer = make_explainer(task_);
  for (int64_t depth = 0; depth < 2; ++depth) EXPECT_EQ(bound(*explainer, depth, 0).keep, 1.0);
  const std::vector<double> shifts = calibrated(*explainer, /*bound=*/0.5);
  for (int64_t depth = 0; depth < 2; ++depth) {
    const MaskBound now = bound(*explainer, depth, 2.33);
    EXPECT_LT(shifts[static_cast<size_t>(depth)], 0) << depth;
    EXPECT_LT(now.keep, 1.0) << depth;
    EXPECT_LE(now.divergence, 0.5) << depth;
  }
  // With a bound that nothing exceeds all is masked, with no larger shift than it takes.
  const auto free = make_explainer(task_);
  for (const double shift : calibrated(*free, /*bound=*/1e6)) EXPECT_EQ(shift, -8.0);
  EXPECT_LE(bound(*free, 0, 0).keep, 0.01);
}

TEST_F(CalibrateTest, InputGatingMasksMoreAtTheLastDepthAlone) {
  const auto explainer = make_explainer(task_, {.masking = Masking::input});
  const std::vector<double> shifts = calibrated(*explainer, /*bound=*/0.5);
  EXPECT_EQ(shifts[0], 0.0);
  EXPECT_LT(shifts[1], 0.0);
}

TEST_F(CalibrateTest, ToleranceTakesTheShiftNearestToZero) {
  const ExplainerOptions middling{.probe = mlp_probe({.initial_bias = 0.0})};
  const auto near = make_explainer(task_, middling), far = make_explainer(task_, middling);
  const std::vector<double> some = calibrated(*near, 1e6, {.tolerance = 0.5}),
                            most = calibrated(*far, 1e6, {.tolerance = 0.0});
  for (int64_t depth = 0; depth < 2; ++depth) {
    EXPECT_EQ(bound(*far, depth, 0).keep, 0.0);
    EXPECT_LE(bound(*near, depth, 0).keep, 0.5);
    EXPECT_GT(some[static_cast<size_t>(depth)], most[static_cast<size_t>(depth)]);
  }
}

// A probe of a user's, with nothing that moves its logits.
class FixedProbe : public Probe {
 public:
  at::Tensor logits(const ProbeStates& states, const Dropout& = {}) override {
    return at::full(states.mask.sizes(), -9.0);
  }
};

TEST_F(CalibrateTest, RefusesProbesThatCannotBeShifted) {
  const ProbeFactory fixed{.make = [](const ProbeInput&, const at::Generator&) {
    return std::make_shared<FixedProbe>();
  }};
  const auto explainer = make_explainer(task_, {.probe = fixed});
  const std::string message =
      "probe has to be one with Probe::shift, to be calibrated, but got that of 'low'";
  TrainerOptions options = training_options();
  options.recipe.calibration = CalibrationOptions{};
  int64_t steps = 0;
  options.callbacks = {[&](const Progress&) {
    ++steps;
    return Action::proceed;
  }};
  expect_refused({{"calibrate", [&] { calibrated(*explainer); }, message},
                  {"training", [&] { run(*explainer, options); }, message}});
  EXPECT_EQ(steps, 0);
}

TEST_F(CalibrateTest, ReadyProbesShiftTheirLogits) {
  const at::Tensor states = at::randn({4, 3, 6}, make_generator(1));
  const ProbeStates read{states, at::ones({4, 3}, at::kBool), at::arange(4)};
  for (const ProbeFactory& factory :
       {mlp_probe(), mlp_probe({.bound = 10}), free_logits({.initial = 1.0})}) {
    const auto probe = factory.make({6, {4, 3}}, make_generator(2));
    const at::Tensor before = probe->logits(read).detach().clone();
    EXPECT_TRUE(probe->shift(-2.5));
    EXPECT_TRUE(probe->logits(read).allclose(before - 2.5, 1e-5, 1e-5)) << factory.part.name;
  }
  FreeLogits free({4, 3});
  free.shift(1000);
  EXPECT_TRUE(free.logits(read).eq(10).all().item<bool>()) << "within the limit";
}

// Calibration is of what is kept; the training beside it is the same to the bit.
TEST_F(CalibrateTest, TrainingGoesOnUnshifted) {
  TrainerOptions options = training_options(40), plain = options;
  options.recipe.calibration = CalibrationOptions{};
  const auto explainer = make_explainer(task_), other = make_explainer(task_);
  const Summary summary = run(*explainer, options), without = run(*other, plain);
  bool shifted = false;
  for (size_t step = 0; step < summary.history.size(); ++step) {
    for (size_t depth = 0; depth < 2; ++depth) {
      EXPECT_EQ(summary.history[step].depths[depth].divergence,
                without.history[step].depths[depth].divergence);
    }
  }
  EXPECT_TRUE(summary.feasible()) << summary.full_report();
  const auto now = evaluated(*explainer, options);
  for (size_t depth = 0; depth < 2; ++depth) {
    expect_same(summary.depths[depth].validation, now[depth]);
    EXPECT_LE(bound(*explainer, static_cast<int64_t>(depth), 2.33).divergence, 0.05 + 1e-6);
    shifted |= summary.depths[depth].shift != 0;
    EXPECT_EQ(without.depths[depth].shift, 0);
  }
  EXPECT_TRUE(shifted);
}

TEST_F(CalibrateTest, RefusesBadOptions) {
  const auto explainer = make_explainer(task_);
  const auto with = [&](double bound, CalibrationOptions options = {}) {
    return [=, this] { calibrated(*explainer, bound, options); };
  };
  expect_refused({{"bound 0", with(0), "bound has to be > 0, but got 0"},
                  {"bound NaN", with(std::nan("")), "bound has to be > 0"},
                  {"confidence", with(1, {.confidence = -1}), "confidence has to be >= 0"},
                  {"tolerance", with(1, {.tolerance = 1}), "tolerance has to be in [0, 1)"},
                  {"halvings", with(1, {.halvings = -1}), "halvings has to be >= 0"}});
}

}  // namespace
}  // namespace diffmask
