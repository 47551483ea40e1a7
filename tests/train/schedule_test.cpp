#include "diffmask/train/schedule.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <set>

#include "diffmask/core/random.hpp"
#include "diffmask/train/recipe.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

using Depths = std::vector<int64_t>;

// The depths of each of a run's steps.
std::vector<Depths> run(const Schedule& schedule, int64_t steps, int64_t depths) {
  at::Generator generator = make_generator(1);
  std::vector<Depths> all;
  for (int64_t step = 1; step <= steps; ++step) {
    all.push_back(schedule({step, steps, depths}, generator));
  }
  return all;
}

TEST(ScheduleTest, EachGivesDifferentDepthsOfTheExplainer) {
  for (const auto& [name, schedule] : schedule::ready()) {
    for (const int64_t depths : {1, 2, 5}) {
      std::set<int64_t> seen;
      for (const Depths& step : run(schedule, 60, depths)) {
        ASSERT_FALSE(step.empty()) << name;
        EXPECT_EQ(std::set<int64_t>(step.begin(), step.end()).size(), step.size()) << name;
        for (const int64_t depth : step) EXPECT_TRUE(depth >= 0 && depth < depths) << name;
        seen.insert(step.begin(), step.end());
      }
      EXPECT_EQ(seen.size(), static_cast<size_t>(depths)) << name << " leaves a depth out";
    }
  }
}

TEST(ScheduleTest, FixedOnesOfFourSteps) {
  const Depths both = {0, 1};
  EXPECT_EQ(run(schedule::all, 2, 2), (std::vector<Depths>{both, both}));
  EXPECT_EQ(run(schedule::top_down, 4, 2), (std::vector<Depths>{{1}, {1}, both, both}));
  EXPECT_EQ(run(schedule::deepest_and_random, 2, 2), (std::vector<Depths>{both, both}));
  EXPECT_EQ(run(schedule::bottom_up, 4, 2), (std::vector<Depths>{{0}, both, both, both}));
}

TEST(RecipeTest, ReadyOnesAreValidAndFoundByTheirNames) {
  EXPECT_GE(recipe::ready().size(), 5u);
  for (const auto& [name, recipe] : recipe::ready()) {
    EXPECT_EQ(recipe.name, name);
    EXPECT_NO_THROW(recipe.validate()) << name;
  }
  const Recipe& reference = named("recipe", "reference", recipe::ready());
  EXPECT_EQ(reference.warm_up, 0);
  EXPECT_EQ(reference.schedule({3, 9, 4}, make_generator(2)).size(), 1u);
  expect_refused({{"unknown", [] { named("recipe", "referense", recipe::ready()); },
                   "'referense' (nearest: reference"}});
}

}  // namespace
}  // namespace diffmask
