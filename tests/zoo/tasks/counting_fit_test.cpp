#include "diffmask/zoo/tasks/counting_fit.hpp"

#include <gtest/gtest.h>

#include "diffmask/attribution/diffmask.hpp"

namespace diffmask {
namespace {

TEST(CountingFitTest, IsExplainedByItsOwnRecipe) {
  const CountingFit task = fit_counting(0, {.training = 200, .validation = 20, .epochs = 1});
  const auto model = staged(task.net);
  const Batch batch = task.validation.dataset().batch(iota(20));
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    DiffMask method(model, counting_explainer(masking));
    TrainerOptions training = counting_training(/*seed=*/0, /*steps=*/2);
    training.recipe.warm_up = 1;
    const Summary summary = method.fit(task.training.dataset(), training);
    EXPECT_EQ(summary.steps, 2);
    const Attribution found = method.attribute(batch);
    EXPECT_EQ(found.sites, model->site_names());
    const at::Tensor kept = found.scores.select(2, 0).masked_select(batch.mask);
    EXPECT_GT(kept.min().item<double>(), 0.9) << "it begins open";
  }
}

TEST(CountingFitTest, MethodsOfTheListExplainItByItsSettings) {
  const CountingFit task = fit_counting(0, {.training = 200, .validation = 20, .epochs = 1});
  const auto model = staged(task.net);
  const auto training = std::make_shared<PaddedDataset>(task.training.dataset());
  const Batch batch = task.validation.dataset().batch(iota(20));
  for (const char* name : {"random", "random_search", "infomask", "noise_tolerance"}) {
    MethodSettings settings = counting_settings(name, /*seed=*/3);
    settings.training_steps = settings.example_steps = 1;
    const auto found = method(name)
                           .make(model, {.target = target::predicted_logit}, settings, training)
                           ->attribute(batch);
    EXPECT_EQ(found.sites, model->site_names()) << name;
  }
  EXPECT_NE(counting_settings("random", 3).seed, counting_settings("random_search", 3).seed);
}

TEST(CountingFitTest, IsASubjectOfComparisons) {
  const CountingFit task = fit_counting(0, {.training = 200, .validation = 20, .epochs = 1});
  const Subject subject = task.subject(/*seed=*/7);
  EXPECT_EQ(subject.training->size(), 200);
  EXPECT_TRUE(subject.truth.equal(task.validation.relevant()));
  const Batch batch = subject.data->batch(iota(20));
  const auto output = [&](const Subject& of) {
    return of.randomised->record(batch.inputs).output();
  };
  EXPECT_TRUE(batch.labels.equal(task.validation.labels));
  EXPECT_FALSE(output(subject).equal(subject.model->record(batch.inputs).output()));
  EXPECT_TRUE(output(subject).equal(output(task.subject(7))));
  EXPECT_FALSE(output(subject).equal(output(task.subject(8))));
}

}  // namespace
}  // namespace diffmask
