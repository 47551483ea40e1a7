// What training refuses, before it has trained anything.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/bad_input.hpp"
#include "tests/train/trainer_fixture.hpp"

namespace diffmask {
namespace {

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

}  // namespace
}  // namespace diffmask
