#include "diffmask/train/trainer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/gate/bernoulli.hpp"
#include "diffmask/metrics/known_answer.hpp"
#include "tests/bad_input.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

class TrainerTest : public testing::Test {
 protected:
  Summary run(Explainer& explainer, TrainerOptions options,
              const std::vector<Callback>& callbacks = {}) const {
    options.callbacks = callbacks;
    return train(*task_.model, explainer, *task_.training, *task_.validation, options);
  }

  std::vector<DepthEvaluation> evaluated(const Explainer& explainer,
                                         const TrainerOptions& options) const {
    RecordedBatches data(*task_.model, *task_.validation, explainer.sites(), options.batches);
    return evaluate(*task_.model, explainer, data, options.divergence, options.epsilon);
  }

  // What the explainer's parameters are after training.
  std::map<std::string, at::Tensor> trained(const TrainerOptions& options,
                                            ExplainerOptions explainer = {}) const {
    const auto fresh = make_explainer(task_, explainer);
    run(*fresh, options);
    return parameters_of(*fresh);
  }

  TrainingTask task_ = training_task();
};

void expect_same(const DepthEvaluation& a, const DepthEvaluation& b) {
  EXPECT_EQ(a.divergence, b.divergence);
  EXPECT_EQ(a.hard_divergence, b.hard_divergence);
  EXPECT_EQ(a.keep, b.keep);
  EXPECT_EQ(a.hard_keep, b.hard_keep);
  EXPECT_EQ(a.within, b.within);
}

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

TEST_F(TrainerTest, LowerDepthsMayBeGivenAShareOfEpsilon) {
  TrainerOptions options = training_options(30);
  options.recipe.first_share = 0.25;
  options.recipe.multiplier = {.initial = 50.0, .rate = 0.25};
  const auto explainer = make_explainer(task_);
  double expected[] = {50.0, 50.0};
  const double epsilons[] = {0.25 * options.epsilon, options.epsilon};
  for (const StepRecord& record : run(*explainer, options).history) {
    for (const DepthStep& depth : record.depths) {
      const double epsilon = epsilons[depth.depth];
      const double violation = std::clamp((depth.divergence - epsilon) / epsilon, -1.0, 1.0);
      double& multiplier = expected[depth.depth];
      multiplier = std::clamp(multiplier + 0.25 * violation, 0.0, 200.0);
      EXPECT_NEAR(depth.multiplier, multiplier, 1e-9);
    }
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

// Without lambda in its gradient (as in the public reference) the second run would close like the
// first: the penalty's gradient is the same in both.
TEST_F(TrainerTest, ReinforceWeighsTheDivergenceByLambda) {
  for (const bool per_sample : {false, true}) {
    const auto keep_at_the_end = [&](double multiplier) {
      TrainerOptions options = training_options(150);
      options.recipe.multiplier = {.initial = multiplier, .rate = 1e-9};
      options.recipe.warm_up = 0;
      const auto explainer = make_explainer(
          task_,
          {.probe = per_sample ? free_logits({.initial = 0.0}) : mlp_probe({.initial_bias = 0.0}),
           .gate = std::make_shared<Bernoulli>(),
           .baseline = {.learned = false}});
      return run(*explainer, options).history.back().depths[1].keep;
    };
    EXPECT_LT(keep_at_the_end(1e-6), 0.3) << per_sample;
    EXPECT_GT(keep_at_the_end(200), 0.7) << per_sample;
  }
}

// The trainer's estimate, from gates that an explainer drew, against enumeration of 2^8 masks.
TEST(ReinforceTest, DrawnGatesGiveTheEnumeratedGradient) {
  constexpr int64_t kPositions = 8, kDraws = 20'000;
  const at::Tensor weights = at::linspace(-1.0, 1.5, kPositions, at::kFloat);
  auto module = std::make_shared<torch::nn::Module>();
  module->eval();
  const StagedModel model(module,
                          {{"state", [](const at::Tensor& x, const Inputs&) { return x.clone(); }},
                           {"head", [&](const at::Tensor& h, const Inputs&) {
                              return (h.squeeze(2) * weights).sum(1);
                            }}});
  const at::Tensor states = at::ones({kDraws, kPositions, 1});
  const Batch batch{
      {states}, at::ones({kDraws, kPositions}, at::kBool), at::zeros({kDraws}, at::kLong)};
  const Recording recording = model.record(batch.inputs);
  const Explainer explainer(model,
                            {.sites = {"state"},
                             .probe = free_logits(),
                             .gate = std::make_shared<Bernoulli>(),
                             .baseline = {.start = BaselineOptions::Start::zero}},
                            recording, batch, {1, kPositions}, make_generator(0));
  at::Tensor logits = explainer.probe(0).parameters().at(0);
  {
    at::NoGradGuard no_grad;
    logits.copy_(at::linspace(-1.5, 2.0, kPositions).unsqueeze(0));
  }
  const double lambda = 3.0;
  const auto cost = [&](const at::Tensor& output) {
    return lambda *
           divergence::squared_error(at::full_like(output, weights.sum().item<double>()), output);
  };
  const at::Tensor bits = at::arange(256, at::kLong).unsqueeze(1);
  const at::Tensor masks =
      at::bitwise_and(bits, at::pow(2, at::arange(kPositions, at::kLong)).unsqueeze(0))
          .ne(0)
          .to(at::kFloat);
  const at::Tensor probability = Bernoulli().log_prob(masks, logits).sum(1).exp();
  const at::Tensor exact =
      torch::autograd::grad({(probability * cost((masks * weights).sum(1))).sum()}, {logits})[0];

  const Gates gates = explainer.gates(recording, batch, {0}, Draw::sample, make_generator(1))[0];
  const at::Tensor costs = cost(explainer.masked_output(model, recording, 0, gates.z)).detach();
  const at::Tensor control = at::full({kDraws}, 5.0);
  const at::Tensor found =
      torch::autograd::grad({score_function(costs, control, gates.log_prob)}, {logits})[0];
  // d log q / d logit = z - P: the spread of single estimates, and so of their mean.
  const at::Tensor single =
      (costs - control).unsqueeze(1) * (gates.z - at::sigmoid(logits).detach());
  const at::Tensor error = single.std(0) / std::sqrt(static_cast<double>(kDraws));
  EXPECT_LT(((found - exact).abs().squeeze(0) / error).max().item<double>(), 5.0)
      << found << exact << error;
  EXPECT_GT((exact.abs().squeeze(0) / error).max().item<double>(), 10.0) << "tests nothing";
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

TEST_F(TrainerTest, RefusesBadDivergences) {
  const auto with = [&](Divergence divergence, int64_t warm_up, ExplainerOptions options = {}) {
    return [=, this] {
      TrainerOptions trainer = training_options();
      trainer.recipe.warm_up = warm_up;
      trainer.divergence = divergence;
      const auto explainer = make_explainer(task_, options);
      run(*explainer, trainer);
    };
  };
  const Divergence nan = [](const at::Tensor& y, const at::Tensor& masked) {
    return divergence::categorical(y, masked) * NAN;
  };
  const Divergence infinite = [](const at::Tensor& y, const at::Tensor& masked) {
    return divergence::categorical(y, masked) + INFINITY;
  };
  const Divergence mean = [](const at::Tensor& y, const at::Tensor& masked) {
    return divergence::categorical(y, masked).mean();
  };
  const Divergence rows = [](const at::Tensor& y, const at::Tensor& masked) {
    return (y - masked).square();
  };
  const Divergence none = [](const at::Tensor&, const at::Tensor&) { return at::Tensor(); };
  // Training makes a graph, and validation none.
  const Divergence late = [&](const at::Tensor& y, const at::Tensor& masked) {
    return at::GradMode::is_enabled() ? divergence::categorical(y, masked) : nan(y, masked);
  };
  const Divergence late_mean = [&](const at::Tensor& y, const at::Tensor& masked) {
    return at::GradMode::is_enabled() ? divergence::categorical(y, masked) : mean(y, masked);
  };
  const std::string at_low = "divergence at 'low' has to be finite, but got 16 NaN or infinite";
  const std::string shape = "divergence(original, masked) has to be of shape (16), but got ";
  expect_refused({
      {"NaN in warm-up", with(nan, 5), at_low},
      {"NaN", with(nan, 0), at_low},
      {"NaN at the second site", with(nan, 0, {.sites = {"high"}}), "divergence at 'high'"},
      {"infinite", with(infinite, 0), at_low},
      {"NaN while validating", with(late, 0), "divergence at 'low' has to be finite"},
      {"a mean", with(mean, 0), shape + "()"},
      {"a mean in warm-up", with(mean, 5), shape + "()"},
      {"a mean while validating", with(late_mean, 0), "divergence(original, masked)"},
      {"a matrix", with(rows, 0), shape + "(16, 2)"},
      {"nothing", with(none, 0), shape + "an undefined tensor"},
  });
}

TEST_F(TrainerTest, RefusesPartsThatGiveOtherThanTheyShould) {
  const auto with = [&](const std::function<void(Recipe&)>& change,
                        ExplainerOptions explainer = {}) {
    return [=, this] {
      TrainerOptions options = training_options();
      change(options.recipe);
      const auto fresh = make_explainer(task_, explainer);
      run(*fresh, options);
    };
  };
  const auto depths = [&](std::vector<int64_t> all) {
    return with([all](Recipe& recipe) {
      recipe.schedule = [all](const ScheduleStep&, const at::Generator&) { return all; };
    });
  };
  class Sum : public Probe {
   public:
    at::Tensor logits(const ProbeStates& states, const Dropout&) override {
      return states.features.sum();
    }
  };
  const ProbeFactory scalar{
      .make = [](const ProbeInput&, const at::Generator&) { return std::make_shared<Sum>(); }};
  EXPECT_NO_THROW(depths({1, 0})());
  expect_refused({
      {"no depth", depths({}), "depths has to be at least one"},
      {"no such depth", depths({2}), "depth has to be in 0..1, but got 2"},
      {"a depth twice", depths({1, 1}), "depths has to be each once, but got 1, 1"},
      {"a penalty per row", with([](Recipe& recipe) {
         recipe.penalty = [](const at::Tensor& log_keep, const at::Tensor&) {
           return log_keep.mean(1);
         };
       }),
       "penalty(log_keep, mask) has to be of shape (), but got (16)"},
      {"a probe of one logit", with([](Recipe&) {}, {.probe = scalar}),
       "logits of the probe at 'low' has to be of shape"},
  });
}

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

TEST_F(TrainerTest, ExpectedGatesTakeTurnsWithSamples) {
  TrainerOptions options = training_options(6);
  const auto sampled = trained(options);
  options.recipe.expected_every = 7;
  EXPECT_TRUE(same_bits(trained(options), sampled)) << "the seventh step was not made";
  options.recipe.expected_every = 6;
  EXPECT_FALSE(same_bits(trained(options), sampled));
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

TEST_F(TrainerTest, RefusesBadOptions) {
  const auto with = [&](const std::function<void(TrainerOptions&)>& change) {
    return [this, change] {
      TrainerOptions options = training_options();
      change(options);
      const auto explainer = make_explainer(task_);
      const auto before = parameters_of(*explainer);
      try {
        run(*explainer, options);
      } catch (...) {
        EXPECT_TRUE(same_bits(parameters_of(*explainer), before)) << "trained before it refused";
        throw;
      }
    };
  };
  using O = TrainerOptions;
  expect_refused({
      {"epsilon 0", with([](O& o) { o.epsilon = 0; }), "epsilon has to be > 0, but got 0"},
      {"epsilon -1", with([](O& o) { o.epsilon = -1; }), "epsilon has to be > 0, but got -1"},
      {"epsilon NaN", with([](O& o) { o.epsilon = NAN; }), "epsilon has to be > 0, but got nan"},
      {"epsilon infinite", with([](O& o) { o.epsilon = INFINITY; }), "epsilon has to be > 0"},
      {"divergence", with([](O& o) { o.divergence = nullptr; }), "divergence has to be a function"},
      {"steps", with([](O& o) { o.steps = 0; }), "steps has to be >= 1, but got 0"},
      {"warm-up", with([](O& o) { o.recipe.warm_up = -1; }), "warm_up has to be >= 0, but got -1"},
      {"warm-up rate", with([](O& o) { o.recipe.warm_up_rate = 0; }), "warm_up_rate has to be > 0"},
      {"gate rate", with([](O& o) { o.recipe.gate_rate = NAN; }),
       "gate_rate has to be > 0, but got nan"},
      {"baseline rate", with([](O& o) { o.recipe.baseline_rate = -1; }),
       "baseline_rate has to be > 0"},
      {"final rate", with([](O& o) { o.recipe.final_rate = 0; }), "final_rate has to be in (0, 1]"},
      {"validation", with([](O& o) { o.recipe.validate_every = 0; }),
       "validate_every has to be >= 1"},
      {"expected", with([](O& o) { o.recipe.expected_every = -1; }),
       "expected_every has to be >= 0"},
      {"dropout 1", with([](O& o) { o.recipe.dropout = 1; }),
       "dropout has to be in [0, 1), but got 1"},
      {"dropout NaN", with([](O& o) { o.recipe.dropout = NAN; }), "dropout has to be in [0, 1)"},
      {"batch size", with([](O& o) { o.batches.batch_size = 0; }), "batch_size has to be >= 1"},
      {"cache", with([](O& o) { o.batches.cache_bytes = -1; }), "cache_bytes has to be >= 0"},
      {"penalty", with([](O& o) { o.recipe.penalty = nullptr; }), "penalty has to be a function"},
      {"schedule", with([](O& o) { o.recipe.schedule = nullptr; }),
       "schedule has to be a function"},
      {"optimiser", with([](O& o) { o.recipe.optimiser = nullptr; }),
       "optimiser has to be a function"},
      {"control", with([](O& o) { o.recipe.control.decay = 2; }),
       "control.decay has to be in [0, 1]"},
      {"multiplier", with([](O& o) { o.recipe.multiplier.rate = 0; }), "rate has to be > 0"},
      {"lookahead k", with([](O& o) { o.recipe.lookahead = LookaheadOptions{.k = 0}; }),
       "k has to be"},
      {"lookahead alpha", with([](O& o) { o.recipe.lookahead = LookaheadOptions{.alpha = 2}; }),
       "alpha has to be in (0, 1], but got 2"},
  });
}

}  // namespace
}  // namespace diffmask
