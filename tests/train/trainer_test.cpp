#include "diffmask/train/trainer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/gate/bernoulli.hpp"
#include "diffmask/metrics/known_answer.hpp"
#include "tests/train/trainer_fixture.hpp"

namespace diffmask {
namespace {

// A model that adds up the numbers whose flag is set, and nothing else. Of CountingNet the same is
// true, but its gates need some 2,000 steps: too slow here, so examples/counting is what shows
// that.
TEST(TrainerKnownAnswerTest, FindsThePositionsThatMatter) {
  const auto draw = [](int64_t size, uint64_t seed) {
    const at::Generator generator = make_generator(seed);
    const at::Tensor sign = at::rand({size, 6}, generator).gt(0.5).to(at::kFloat) * 2 - 1;
    const at::Tensor flag = at::rand({size, 6}, generator).gt(0.5).to(at::kFloat);
    return at::stack({sign, flag}, 2);
  };
  const auto data_of = [](const at::Tensor& values) {
    return PaddedDataset({{values, /*is_sequence=*/true}},
                         at::arange(values.size(0), at::kLong).remainder(6) + 1);
  };
  const at::Tensor values = draw(400, 1), held_out_values = draw(100, 2);
  const PaddedDataset training = data_of(values), held_out = data_of(held_out_values);
  torch::nn::Sequential net(torch::nn::Linear(2, 1));
  {
    at::NoGradGuard no_grad;
    net->parameters()[0].copy_(at::tensor({2.0, 0.0}).view({1, 2}));
    net->parameters()[1].fill_(0.5);
  }
  net->eval();
  const auto model = std::make_shared<StagedModel>(
      net.ptr(),
      std::vector<Stage>{{"state",
                          [](const at::Tensor& x, const Inputs&) {
                            const at::Tensor flag = x.select(2, 1);
                            return at::stack({x.select(2, 0) * flag, flag}, 2);
                          }},
                         {"head", [net](const at::Tensor& h, const Inputs& x) {
                            const at::Tensor sum = (h * x[1].unsqueeze(2)).sum(1);
                            return net->ptr<torch::nn::LinearImpl>(0)->forward(sum).squeeze(1);
                          }}});
  ExplainerOptions options;
  options.probe = mlp_probe({.initial_bias = 4.0});
  TrainerOptions trainer = training_options(300);
  trainer.divergence = divergence::bernoulli;
  trainer.recipe.warm_up = 50;
  trainer.recipe.gate_rate = 0.03;
  trainer.batches.batch_size = 64;
  trainer.recipe.validate_every = 25;
  DiffMask method(model, options);
  const Summary summary = method.fit(training, held_out, trainer);
  EXPECT_TRUE(summary.feasible()) << summary.full_report();
  EXPECT_LE(summary.depths[0].validation.divergence, 0.05);
  EXPECT_LE(summary.depths[0].validation.hard_divergence, 0.05);

  const Batch batch = held_out.batch(iota(held_out.size()));
  const at::Tensor scores = method.attribute(batch).scores.select(2, 0);
  const at::Tensor truth = held_out_values.select(2, 1);
  const KnownAnswer answer = known_answer(truth, scores, batch.mask);
  const KnownAnswer uniform = known_answer(truth, batch.mask, batch.mask);
  EXPECT_GT(uniform.kl, 0.4);
  EXPECT_LT(answer.kl, uniform.kl / 4) << summary.full_report();
  EXPECT_LT(answer.js, uniform.js / 4);
}

TEST_F(TrainerTest, TrainsTheDepthsOfItsSchedule) {
  for (const auto& [name, schedule] : schedule::ready()) {
    SCOPED_TRACE(name);
    TrainerOptions options = training_options(20);
    options.recipe.schedule = schedule;
    const auto explainer = make_explainer(task_);
    const auto before = parameters_of(*explainer);
    const Summary summary = run(*explainer, options);
    EXPECT_FALSE(same_bits(parameters_of(*explainer), before));
    EXPECT_EQ(summary.steps, 20);
    EXPECT_FALSE(summary.interrupted);
    EXPECT_EQ(summary.epsilon, options.epsilon);
    ASSERT_EQ(summary.history.size(), 20u);
    std::set<int64_t> seen;
    for (const StepRecord& record : summary.history) {
      std::vector<int64_t> depths;
      for (const DepthStep& depth : record.depths) depths.push_back(depth.depth);
      seen.insert(depths.begin(), depths.end());
      const std::vector<int64_t> both = {0, 1}, deepest = {1}, lowest = {0};
      if (name == "all") EXPECT_EQ(depths, both);
      if (name == "random") EXPECT_EQ(depths.size(), 1u);
      if (name == "deepest_and_random") EXPECT_EQ(depths, both) << "of two depths";
      if (name == "bottom_up") EXPECT_EQ(depths, record.step <= 5 ? lowest : both);
      if (name == "top_down") EXPECT_EQ(depths, record.step <= 10 ? deepest : both);
    }
    EXPECT_EQ(seen, (std::set<int64_t>{0, 1}));
  }
}

// Each multiplier moves by a quarter of the relative violation of its own epsilon, above a minimum.
void expect_multipliers(const Summary& summary, double initial, double minimum,
                        const std::vector<double>& epsilons) {
  std::vector<double> expected(epsilons.size(), initial);
  for (const StepRecord& record : summary.history) {
    for (const DepthStep& step : record.depths) {
      const auto depth = static_cast<size_t>(step.depth);
      const double epsilon = epsilons[depth];
      const double violation = std::clamp((step.divergence - epsilon) / epsilon, -1.0, 1.0);
      expected[depth] = std::clamp(expected[depth] + 0.25 * violation, minimum, 200.0);
      EXPECT_NEAR(step.multiplier, expected[depth], 1e-9);
    }
  }
}

TEST_F(TrainerTest, LowerDepthsMayBeGivenAShareOfEpsilon) {
  TrainerOptions options = training_options(30);
  options.recipe.first_share = 0.25;
  options.recipe.multiplier = {.initial = 50.0, .rate = 0.25};
  const auto explainer = make_explainer(task_);
  expect_multipliers(run(*explainer, options), 50.0, 0.0,
                     {0.25 * options.epsilon, options.epsilon});
}

TEST_F(TrainerTest, MultipliersKeepAMargin) {
  TrainerOptions options = training_options(30);
  options.recipe.margin = 0.5;
  options.recipe.multiplier = {.initial = 5.0, .rate = 0.25, .minimum = 4.5};
  const auto explainer = make_explainer(task_);
  expect_multipliers(run(*explainer, options), 5.0, 4.5,
                     {0.5 * options.epsilon, 0.5 * options.epsilon});
}

// The penalty of a third of the steps, a blend, and the other one.
TEST_F(TrainerTest, ThePenaltyChangesToTheFinalOne) {
  TrainerOptions options = training_options(9);
  int64_t first = 0, final = 0;
  const auto counted = [](int64_t& calls) -> Penalty {
    return [&calls](const at::Tensor& log_keep, const at::Tensor& mask) {
      ++calls;
      return masked_mean(log_keep.exp(), mask);
    };
  };
  options.recipe.penalty = counted(first);
  const auto alone = make_explainer(task_), same = make_explainer(task_);
  run(*alone, options);
  options.recipe.final_penalty = counted(final);
  run(*same, options);
  EXPECT_EQ(final, 2 * 9);
  // Between two that are the same the training is the same.
  const auto a = alone->parameters(), b = same->parameters();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::allclose(a[i], b[i], 1e-4, 1e-5)) << i;
  // A final one that rewards what is kept opens what the first had closed.
  options.steps = 60;
  options.recipe.penalty = penalty::log_odds();
  options.recipe.multiplier = {.initial = 0.0, .rate = 1e-9};
  options.recipe.final_penalty = nullptr;
  const auto last_keep = [&] {
    return run(*make_explainer(task_), options).history.back().depths[0].keep;
  };
  const double closed = last_keep();
  options.recipe.final_penalty = [](const at::Tensor& log_keep, const at::Tensor& mask) {
    return -masked_mean(log_keep, mask);
  };
  EXPECT_GT(last_keep(), closed + 0.05);
}

// One preset, whatever the masking: within epsilon by hard mask and expected gate, and some masked.
TEST_F(TrainerTest, OneRecipeKeepsItsPromise) {
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    TrainerOptions options = training_options(300);
    options.recipe = recipe::one();
    const auto explainer = make_explainer(task_, {.masking = masking});
    const Summary summary = run(*explainer, options);
    EXPECT_TRUE(summary.feasible()) << summary.full_report();
    for (const DepthSummary& depth : summary.depths) {
      EXPECT_LE(depth.validation.hard_divergence, options.epsilon) << depth.site;
    }
    // Less than at the start: here all positions count, so hard masks may keep all.
    EXPECT_LT(summary.depths.back().validation.keep, 0.99) << summary.full_report();
  }
}

TEST_F(TrainerTest, DropoutIsOfTheStepsAlone) {
  TrainerOptions whole = training_options(6), half = whole;
  half.recipe.dropout = 0.5;
  EXPECT_FALSE(same_bits(trained(half), trained(whole)));
  EXPECT_TRUE(same_bits(trained(half), trained(half)));
  for (TrainerOptions* options : {&whole, &half}) {
    options->steps = 1;
    options->recipe.gate_rate = options->recipe.baseline_rate = 1e-12;
  }
  const auto validated = [&](const TrainerOptions& options) {
    const auto explainer = make_explainer(task_);
    return run(*explainer, options).depths[1].validation.divergence;
  };
  EXPECT_NEAR(validated(half), validated(whole), 1e-6) << "what is validated is left whole";
}

TEST_F(TrainerTest, MultipliersFollowTheDivergence) {
  TrainerOptions options = training_options(30);
  options.recipe.multiplier = {.initial = 2.0, .rate = 0.25};
  const auto explainer = make_explainer(task_);
  const Summary summary = run(*explainer, options);
  std::vector<double> expected = {2.0, 2.0};
  for (const StepRecord& record : summary.history) {
    for (const DepthStep& depth : record.depths) {
      const double violation = (depth.divergence - options.epsilon) / options.epsilon;
      double& multiplier = expected[static_cast<size_t>(depth.depth)];
      multiplier = std::max(multiplier + 0.25 * std::clamp(violation, -1.0, 1.0), 0.0);
      EXPECT_NEAR(depth.multiplier, multiplier, 1e-12);
    }
  }
  EXPECT_EQ(summary.depths[0].multiplier, summary.history.back().depths[0].multiplier);
}

TEST_F(TrainerTest, MultipliersMayFollowSamplesAlone) {
  TrainerOptions options = training_options(12);
  options.recipe.expected_every = 3;
  options.recipe.multipliers_by_samples = true;
  const Summary summary = run(*make_explainer(task_), options);
  int64_t moved = 0;
  for (size_t step = 1; step < summary.history.size(); ++step) {
    const double before = summary.history[step - 1].depths[0].multiplier;
    const double after = summary.history[step].depths[0].multiplier;
    if (summary.history[step].step % 3 == 0) EXPECT_EQ(after, before);
    moved += after != before;
  }
  EXPECT_GT(moved, 4);
}

TEST_F(TrainerTest, TheReferencesRecipeRuns) {
  TrainerOptions options{.epsilon = 0.05, .steps = 13, .recipe = recipe::reference()};
  options.batches.batch_size = 16;
  const auto explainer = make_explainer(task_);
  const auto before = parameters_of(*explainer);
  const Summary summary = run(*explainer, options);
  EXPECT_EQ(summary.steps, 13);
  for (const DepthSummary& depth : summary.depths) EXPECT_EQ(depth.step, 13);
  EXPECT_FALSE(same_bits(parameters_of(*explainer), before));
}

TEST_F(TrainerTest, SameSeedSameBits) {
  const auto reinforced = [&](uint64_t seed) {
    return trained(training_options(12, seed), {.gate = std::make_shared<Bernoulli>()});
  };
  EXPECT_TRUE(same_bits(reinforced(1), reinforced(1)));
  EXPECT_FALSE(same_bits(reinforced(1), reinforced(2)));
  for (const Schedule& schedule : {Schedule(schedule::all), Schedule(schedule::random)}) {
    const auto of_seed = [&](uint64_t seed) {
      TrainerOptions options = training_options(12, seed);
      options.recipe.schedule = schedule;
      return trained(options);
    };
    EXPECT_TRUE(same_bits(of_seed(1), of_seed(1)));
    EXPECT_FALSE(same_bits(of_seed(1), of_seed(2)));
  }
}

TEST_F(TrainerTest, ForgottenRecordingsAreMadeAnewToTheSameBits) {
  TrainerOptions options = training_options(12);
  const auto kept = trained(options);
  options.batches.cache_bytes = 0;
  EXPECT_TRUE(same_bits(trained(options), kept));
}

TEST_F(TrainerTest, LookaheadPullsThePartsBack) {
  TrainerOptions options = training_options(12);
  options.recipe.validate_every = 12;
  const auto plain = trained(options);
  options.recipe.lookahead = LookaheadOptions{.k = 13, .alpha = 0.5};
  EXPECT_TRUE(same_bits(trained(options), plain)) << "13 steps have not passed";
  // At the twelfth step the slow weights, still where they began, are followed a thousandth.
  options.recipe.lookahead = LookaheadOptions{.k = 12, .alpha = 1e-3};
  const auto pulled = trained(options), start = parameters_of(*make_explainer(task_));
  for (const auto& [name, value] : pulled) {
    if (name.starts_with("baseline")) continue;  // warmed up after the slow weights were taken
    const at::Tensor expected = start.at(name) + 1e-3 * (plain.at(name) - start.at(name));
    EXPECT_TRUE(at::allclose(value, expected, 0, 1e-6)) << name;
  }
}

TEST_F(TrainerTest, WarmUpMovesBaselinesAlone) {
  const auto explainer = make_explainer(task_);
  const auto before = parameters_of(*explainer);
  int64_t seen = 0;
  const Callback stop = [&](const Progress& now) {
    EXPECT_EQ(now.phase, Progress::Phase::warm_up);
    EXPECT_EQ(now.step, ++seen);
    EXPECT_EQ(now.steps, 5);
    EXPECT_EQ(now.record, nullptr);
    return now.step == 4 ? Action::stop : Action::proceed;
  };
  const Summary summary = run(*explainer, training_options(), {stop});
  EXPECT_TRUE(summary.interrupted);
  EXPECT_EQ(seen, 4);
  EXPECT_EQ(summary.steps, 0);
  EXPECT_FALSE(summary.feasible());
  for (const DepthSummary& depth : summary.depths) EXPECT_EQ(depth.step, 0);
  for (const auto& [name, value] : parameters_of(*explainer)) {
    EXPECT_EQ(value.equal(before.at(name)), !name.starts_with("baseline")) << name;
  }
}

TEST_F(TrainerTest, FixedBaselinesStay) {
  ExplainerOptions fixed;
  fixed.baseline.learned = false;
  const auto explainer = make_explainer(task_, fixed);
  const auto before = parameters_of(*explainer);
  run(*explainer, training_options());
  for (const auto& [name, value] : parameters_of(*explainer)) {
    // A layer may have parameters that nothing moves in 20 steps, a baseline must not have others.
    if (name.starts_with("baseline")) EXPECT_TRUE(value.equal(before.at(name))) << name;
  }
  EXPECT_FALSE(same_bits(parameters_of(*explainer), before));
}

TEST_F(TrainerTest, TheModelIsNotChanged) {
  for (at::Tensor& parameter : task_.net->parameters()) {
    parameter.mutable_grad() = at::full_like(parameter, 0.5);
  }
  (*task_.net)[1]->named_parameters()["bias"].set_requires_grad(false);
  const std::string fingerprint = task_.model->fingerprint();
  const auto expect_unchanged = [&] {
    EXPECT_EQ(task_.model->fingerprint(), fingerprint);
    for (const auto& module : task_.net->modules()) EXPECT_FALSE(module->is_training());
    for (const auto& item : task_.net->named_parameters()) {
      EXPECT_EQ(item.value().requires_grad(), item.key() != "1.bias");
      EXPECT_TRUE(item.value().grad().eq(0.5).all().item<bool>()) << item.key();
    }
    EXPECT_TRUE(at::GradMode::is_enabled());
  };
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    const auto explainer = make_explainer(task_, {.masking = masking});
    run(*explainer, training_options());
    expect_unchanged();
    for (const auto& item : explainer->named_parameters()) {
      EXPECT_FALSE(item.value().grad().defined()) << item.key();
    }
    TrainerOptions throwing = training_options();
    throwing.divergence = [n = 0](const at::Tensor& y, const at::Tensor& masked) mutable {
      if (++n == 20) throw std::domain_error("a divergence's own exception");
      return divergence::categorical(y, masked);
    };
    EXPECT_THROW(run(*explainer, throwing), std::domain_error);
    expect_unchanged();
    const Callback fails = [](const Progress& now) {
      if (now.validation) throw std::domain_error("a callback's own exception");
      return Action::proceed;
    };
    EXPECT_THROW(run(*explainer, training_options(), {fails}), std::domain_error);
    expect_unchanged();
  }
}

TEST_F(TrainerTest, ExpectedGatesTakeTurnsWithSamples) {
  TrainerOptions options = training_options(6);
  const auto sampled = trained(options);
  options.recipe.expected_every = 7;
  EXPECT_TRUE(same_bits(trained(options), sampled)) << "the seventh step was not made";
  options.recipe.expected_every = 6;
  EXPECT_FALSE(same_bits(trained(options), sampled));
}

}  // namespace
}  // namespace diffmask
