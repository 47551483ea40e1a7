// The library on the device that DIFFMASK_DEVICE names beside the library on the processor: the same
// numbers, within 1e-4 (LRP: 1e-3). Without the variable both are the processor.
#include <c10/util/signal_handler.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/metrics/mask_experiment.hpp"
#include "diffmask/zoo/nets/supervised.hpp"
#include "tests/gpu/device_models.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/test_device.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

constexpr double kTolerance = 1e-4;
constexpr double kLrpTolerance = 1e-3;  // it divides by sums that may nearly cancel

class DeviceTest : public testing::Test {
 protected:
  // A crash on a machine lent for minutes should say where it was.
  static void SetUpTestSuite() {
    c10::FatalSignalHandler::getInstance().setPrintStackTracesOnFatalSignal(true);
  }

  // Convolutions and recurrent nets would round to 10 bits on NVIDIA's tensor cores.
  DeviceTest() { at::globalContext().setAllowTF32CuDNN(false); }

  // One method's result on the model's twin on each device, at all sites.
  void expect_same(const std::string& name, const std::shared_ptr<const FrozenModel>& here,
                   const std::shared_ptr<const FrozenModel>& there, const Batch& batch,
                   const AttributionOptions& options) const {
    SCOPED_TRACE(name);
    const auto scores = [&](const std::shared_ptr<const FrozenModel>& model) {
      const Attribution result = method(name).make(model, options, few_)->attribute(batch);
      EXPECT_EQ(result.scores.device().type(), model->device().type());
      return result.scores.cpu();
    };
    const at::Tensor a = scores(here), b = scores(there);
    EXPECT_LE(relative_difference(b, a), name == "lrp" ? kLrpTolerance : kTolerance);
  }

  static double relative_difference(const at::Tensor& a, const at::Tensor& b) {
    if (a.sizes() != b.sizes()) return INFINITY;
    const at::Tensor x = a.cpu().to(at::kDouble), y = b.cpu().to(at::kDouble);
    return (x - y).abs().max().item<double>() / std::max(1.0, y.abs().max().item<double>());
  }

  const c10::Device device_ = test_device();
  MethodSettings few_{
      .random_passes = 10, .epsilon = 0.05, .training_steps = 3, .example_steps = 3};
};

const std::vector<std::string> kByGradients = {"gradient_x_input", "integrated_gradients",
                                               "deeplift", "lrp", "leave_one_out"};

TEST_F(DeviceTest, WhatLearnsNothingScoresTheSame) {
  const TrainingTask here = training_task(3), there = training_task(3, device_);
  const Batch batch = here.validation->batch(iota(8));
  for (const std::string& name : unlearned_method_names()) {
    expect_same(name, here.model, there.model, batch, {.sites = {"low", "high"}});
  }
}

// What is drawn on the device differs from what is drawn on the processor.
TEST_F(DeviceTest, WhatLearnsRunsWhereTheModelLies) {
  const TrainingTask task = training_task(3, device_);
  for (const Method& each : methods()) {
    if (!each.needs_training && !each.fits_examples) continue;
    SCOPED_TRACE(each.name);
    const auto made = each.make(task.model, {.sites = {"low", "high"}}, few_, task.training);
    const Attribution found = made->attribute(task.validation->batch(iota(8)));
    EXPECT_EQ(found.scores.device().type(), device_.type());
    EXPECT_TRUE(found.scores.isfinite().all().item<bool>());
  }
}

TEST_F(DeviceTest, ImagesScoreTheSame) {
  const auto here = image_model(), there = image_model(device_);
  const Batch batch = ImageData(6, 4).batch(iota(6));
  for (const std::string& name : kByGradients) {
    expect_same(name, here, there, batch,
                {.sites = {"0", "1"}, .positions = {{Positions::Layout::image, 2}}});
  }
}

TEST_F(DeviceTest, ReadyNetsScoreTheSame) {
  for (const DeviceModel& each : native_models(device_)) {
    SCOPED_TRACE(each.name);
    for (const std::string& name : kByGradients) {
      expect_same(name, each.here, each.there, each.batch,
                  {.sites = each.sites, .positions = each.positions});
    }
  }
}

TEST_F(DeviceTest, ModelsFromFilesScoreTheSame) {
  const TemporaryFolder folder;
  for (const DeviceModel& each : models_from_files(folder.path(), device_)) {
    SCOPED_TRACE(each.name);
    EXPECT_EQ(each.there->device().type(), device_.type());
    for (const std::string& name : kByGradients) {
      expect_same(name, each.here, each.there, each.batch,
                  {.sites = each.sites, .positions = each.positions});
    }
  }
}

// Trained on the device, saved, and loaded for the model on the processor; and the other way round.
TEST_F(DeviceTest, ExplainersMoveBetweenDevices) {
  const TemporaryFolder folder;
  const TrainingTask here = training_task(3), there = training_task(3, device_);
  const Batch batch = here.validation->batch(iota(8));
  const std::string path = folder / "explainer.safetensors";
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    for (const auto& [from, to] : {std::pair{&there, &here}, std::pair{&here, &there}}) {
      DiffMask trained(from->model, {.masking = masking});
      trained.fit(*from->training, *from->validation, training_options(10));
      trained.save(path);
      const DiffMask loaded = DiffMask::load(path, to->model);
      EXPECT_LE(
          relative_difference(loaded.attribute(batch).scores, trained.attribute(batch).scores),
          kTolerance);
      const at::Tensor z = at::rand(batch.mask.sizes(), make_generator(1));
      EXPECT_LE(relative_difference(loaded.masked_output(batch, 0, z),
                                    trained.masked_output(batch, 0, z)),
                kTolerance);
    }
  }
}

TEST_F(DeviceTest, TrainingLearnsTheSame) {
  const auto validated = [](const TrainingTask& task) {
    DiffMask method(task.model);
    return method.fit(*task.training, *task.validation, training_options(200)).depths;
  };
  const auto here = validated(training_task(3)), there = validated(training_task(3, device_));
  ASSERT_EQ(here.size(), there.size());
  for (size_t depth = 0; depth < here.size(); ++depth) {
    const DepthEvaluation &a = here[depth].validation, &b = there[depth].validation;
    EXPECT_NEAR(a.keep, b.keep, 0.15) << here[depth].site;
    EXPECT_NEAR(a.divergence, b.divergence, 0.05) << here[depth].site;
  }
}

TEST_F(DeviceTest, ComparisonsMeasureTheSame) {
  const auto table = [](const TrainingTask& task) {
    ComparisonOptions options{.sites = {"low", "high"}, .batch_size = 8};
    options.faithfulness.steps = 4;
    options.truth = [](const Batch& batch) { return batch.mask; };
    options.seeds = 2;
    return compare(task.model, *task.validation, compared_methods({}, {}, {.random_passes = 10}),
                   options);
  };
  const Comparison here = table(training_task(3)), there = table(training_task(3, device_));
  ASSERT_EQ(here.rows.size(), there.rows.size());
  for (size_t i = 0; i < here.rows.size(); ++i) {
    const ComparisonRow &a = here.rows[i], &b = there.rows[i];
    SCOPED_TRACE(a.method + " " + a.site);
    EXPECT_EQ(b.failure, "");
    for (const auto& [name, value] : a.values) {
      if (name == "seconds per 1,000" || std::isnan(value) || b.value(name) == value) continue;
      EXPECT_NEAR(b.value(name), value, 1e-3 * std::max(1.0, std::abs(value))) << name;
    }
  }
}

TEST_F(DeviceTest, MasksAreScoredWhereTheModelLies) {
  const TrainingTask task = training_task(3, device_);
  DiffMask method(task.model);
  method.fit(*task.training, *task.validation, training_options(10));
  const MaskExperiment found =
      score_masks(*task.model, *task.validation, {{"hidden", method, 0.05}},
                  {.scorer = scorer::classes(2),
                   .controls = {control::random(2), control::uniform()},
                   .batch_size = 7});
  for (const DepthScore& depth : found.gating("hidden").depths) {
    EXPECT_TRUE(std::isfinite(depth.chosen.divergence));
    EXPECT_EQ(depth.controls.size(), 2u);
  }
}

// What the other tests rest on.
TEST_F(DeviceTest, MixingDevicesIsAnError) {
  if (device_.is_cpu()) GTEST_SKIP() << "DIFFMASK_DEVICE names no other device";
  const at::Tensor here = at::ones({3}), there = here.to(device_);
  EXPECT_ANY_THROW(here + there);
  EXPECT_ANY_THROW(there.masked_fill(here.gt(0), 1.0));
  EXPECT_ANY_THROW(at::rand({3}, make_generator(1), there.options()));
}

TEST_F(DeviceTest, ModelsTrainWhereTheyLie) {
  const auto loss = [](TrainingTask task) {
    const ModuleForward forward = [&task](const Inputs& x) {
      return task.net->ptr<torch::nn::LinearImpl>(2)->forward(
          at::tanh(task.net->ptr<torch::nn::LinearImpl>(0)->forward(x[0])).sum(1));
    };
    const auto summary = train_supervised(*task.net, forward, cross_entropy, *task.training,
                                          *task.validation, {.epochs = 2, .batch_size = 16});
    EXPECT_TRUE(predict(*task.net, forward, *task.validation).isfinite().all().item<bool>());
    return summary.loss;
  };
  const double here = loss(training_task(3)), there = loss(training_task(3, device_));
  EXPECT_NEAR(here, there, kTolerance * std::max(1.0, here));
}

}  // namespace
}  // namespace diffmask
