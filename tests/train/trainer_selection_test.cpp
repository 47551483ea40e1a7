// Which parameters training ends with, and what it reports of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "diffmask/train/evaluate.hpp"
#include "tests/train/trainer_fixture.hpp"

namespace diffmask {
namespace {

TEST_F(TrainerTest, WhatIsThereWhenStoppedWasValidated) {
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    TrainerOptions options = training_options(100);
    options.recipe.validate_every = 50;
    const auto explainer = make_explainer(task_, {.masking = masking});
    const Callback stop = [](const Progress& now) {
      return now.phase == Progress::Phase::train && now.step == 7 ? Action::stop : Action::proceed;
    };
    int64_t calls = 0;
    const Callback count = [&](const Progress&) { return ++calls, Action::proceed; };
    const Summary summary = run(*explainer, options, {stop, count});
    EXPECT_TRUE(summary.interrupted);
    EXPECT_EQ(summary.steps, 7);
    EXPECT_EQ(summary.history.size(), 7u);
    EXPECT_EQ(calls, 5 + 7);
    const auto now = evaluated(*explainer, options);
    for (size_t depth = 0; depth < now.size(); ++depth) {
      EXPECT_EQ(summary.depths[depth].step, 7);
      expect_same(summary.depths[depth].validation, now[depth]);
    }
  }
}

// How far an evaluation is from D <= eps, and how much it keeps.
std::pair<double, double> score(const DepthEvaluation& depth, Selection selection, double epsilon) {
  const double expected = std::max(depth.divergence - epsilon, 0.0);
  const double hard = std::max(depth.hard_divergence - epsilon, 0.0);
  if (selection == Selection::expected) return {expected, depth.keep};
  if (selection == Selection::hard) return {hard, depth.hard_keep};
  return {std::max(expected, hard), depth.keep + depth.hard_keep};
}

TEST_F(TrainerTest, EndsWithTheBestParametersOfEachDepth) {
  bool steps_differ = false, not_the_last = false;
  for (const Selection selection : {Selection::expected, Selection::hard, Selection::both}) {
    TrainerOptions options = training_options(60);
    options.recipe.validate_every = 1;  // fine enough for the depths' best steps to differ
    options.recipe.selection = selection;
    const auto explainer = make_explainer(task_);
    std::map<int64_t, std::vector<DepthEvaluation>> validations;
    const Callback note = [&](const Progress& now) {
      EXPECT_EQ(now.validation != nullptr, now.phase == Progress::Phase::train && now.step > 0);
      if (now.validation) validations[now.step] = *now.validation;
      return Action::proceed;
    };
    const Summary summary = run(*explainer, options, {note});
    EXPECT_EQ(validations.size(), 60u);
    const auto now = evaluated(*explainer, options);
    for (size_t depth = 0; depth < now.size(); ++depth) {
      const DepthSummary& best = summary.depths[depth];
      EXPECT_EQ(best.site, explainer->sites()[depth]);
      expect_same(best.validation, now[depth]);
      expect_same(best.validation, validations.at(best.step)[depth]);
      const auto mine = score(best.validation, selection, options.epsilon);
      EXPECT_EQ(best.feasible, mine.first == 0);
      for (const auto& [step, evaluation] : validations) {
        EXPECT_LE(mine, score(evaluation[depth], selection, options.epsilon)) << "step " << step;
      }
      not_the_last |= best.step != options.steps;
    }
    steps_differ |= summary.depths[0].step != summary.depths[1].step;
  }
  EXPECT_TRUE(steps_differ) << "depths that agree by chance test nothing";
  EXPECT_TRUE(not_the_last);
}

TEST_F(TrainerTest, InputGatingSelectsAllDepthsTogether) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    TrainerOptions options = training_options(40, seed);
    const auto explainer = make_explainer(task_, {.masking = Masking::input});
    const Summary summary = run(*explainer, options);
    EXPECT_EQ(summary.depths[0].step, summary.depths[1].step);
    const auto now = evaluated(*explainer, options);
    for (size_t depth = 0; depth < now.size(); ++depth) {
      expect_same(summary.depths[depth].validation, now[depth]);
    }
    EXPECT_LE(now[1].keep, now[0].keep) << "what is dropped stays dropped";
  }
}

TEST_F(TrainerTest, EvaluatesMeansOverExamples) {
  const auto explainer = make_explainer(task_);
  run(*explainer, training_options(30));
  TrainerOptions options = training_options();
  const auto together = evaluated(*explainer, options);
  std::vector<DepthEvaluation> expected(2, {0, 0, 0, 0, 0});
  const int64_t size = task_.validation->size();
  for (int64_t i = 0; i < size; ++i) {
    const Batch batch = task_.validation->batch({i});
    const Recording recording = task_.model->record(batch.inputs);
    at::NoGradGuard no_grad;
    for (int64_t depth = 0; depth < 2; ++depth) {
      const auto of = [&](Draw draw) {
        const Gates gates = explainer->gates(recording, batch, {depth}, draw)[0];
        const at::Tensor masked = explainer->masked_output(*task_.model, recording, depth, gates.z);
        return std::pair(divergence::categorical(recording.output(), masked).item<double>(), gates);
      };
      const auto [mean, gates] = of(Draw::mean);
      const auto [hard, hard_gates] = of(Draw::hard);
      DepthEvaluation& sum = expected[static_cast<size_t>(depth)];
      const auto share = 1.0 / static_cast<double>(size);
      sum.divergence += share * mean;
      sum.hard_divergence += share * hard;
      sum.keep += share * gates.log_keep.exp().mean().item<double>();
      sum.hard_keep += share * hard_gates.z.mean().item<double>();
      sum.within += share * (hard <= options.epsilon);
    }
  }
  for (size_t depth = 0; depth < 2; ++depth) {
    EXPECT_NEAR(together[depth].divergence, expected[depth].divergence, 1e-6);
    EXPECT_NEAR(together[depth].hard_divergence, expected[depth].hard_divergence, 1e-6);
    EXPECT_NEAR(together[depth].keep, expected[depth].keep, 1e-6);
    EXPECT_NEAR(together[depth].hard_keep, expected[depth].hard_keep, 1e-6);
    EXPECT_NEAR(together[depth].within, expected[depth].within, 1e-9);
  }
  EXPECT_GT(expected[0].divergence, 1e-4) << "gates that keep everything test nothing";
  EXPECT_LT(expected[0].keep, 0.99);
}

TEST(TrainerImageTest, TrainsPatchesOfImages) {
  const auto model = image_model();
  const ImageData training(24, 1), validation(8, 2);
  const Batch batch = training.batch(iota(24));
  Explainer explainer(*model, image_options(), model->record(batch.inputs), batch, {},
                      make_generator(0));
  const auto before = parameters_of(explainer);
  TrainerOptions options = training_options(10);
  const Summary summary = train(*model, explainer, training, validation, options);
  EXPECT_EQ(summary.steps, 10);
  RecordedBatches data(*model, validation, explainer.sites(), options.batches);
  const auto now = evaluate(*model, explainer, data, options.divergence, options.epsilon);
  for (size_t depth = 0; depth < 2; ++depth) {
    expect_same(summary.depths[depth].validation, now[depth]);
    EXPECT_LT(now[depth].keep, 1);
  }
  for (const auto& [name, value] : parameters_of(explainer)) {
    EXPECT_FALSE(value.equal(before.at(name))) << name;
  }
}

}  // namespace
}  // namespace diffmask
