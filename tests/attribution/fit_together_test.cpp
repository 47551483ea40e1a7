#include "diffmask/attribution/fit_together.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "tests/bad_input.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

class FitTogetherTest : public testing::Test {
 protected:
  std::vector<DiffMask> methods() const {
    return {DiffMask(task_.model, {.masking = Masking::hidden}),
            DiffMask(task_.model, {.masking = Masking::input})};
  }

  const TrainingTask task_ = training_task();
};

TEST_F(FitTogetherTest, GivesTheBitsOfEachFitByItself) {
  std::vector<DiffMask> together = methods(), alone = methods();
  std::vector<TrainerOptions> options = {training_options(8), training_options(10, /*seed=*/1)};
  std::thread::id first, second;
  options[0].callbacks = {[&](const Progress&) {
    first = std::this_thread::get_id();
    return Action::proceed;
  }};
  options[1].callbacks = {[&](const Progress&) {
    second = std::this_thread::get_id();
    return Action::proceed;
  }};
  const auto summaries = fit_together(together, options, *task_.training, *task_.validation);
  ASSERT_EQ(summaries.size(), 2u);
  EXPECT_EQ(summaries[0].steps, 8);
  EXPECT_EQ(summaries[1].steps, 10);
  EXPECT_EQ(first, std::this_thread::get_id());
  EXPECT_NE(second, first);
  for (size_t i = 0; i < 2; ++i) {
    alone[i].fit(*task_.training, *task_.validation, options[i]);
    EXPECT_TRUE(
        same_bits(parameters_of(together[i].explainer()), parameters_of(alone[i].explainer())));
  }
}

TEST_F(FitTogetherTest, ThrowsOnceAllHaveEnded) {
  std::vector<DiffMask> both = methods();
  std::vector<TrainerOptions> options = {training_options(8), training_options(8)};
  options[0].callbacks = {[](const Progress&) -> Action { throw Error("of the first"); }};
  EXPECT_THROW(fit_together(both, options, *task_.training, *task_.validation), Error);
  EXPECT_FALSE(both[0].fitted());
  EXPECT_TRUE(both[1].fitted());
  std::vector<DiffMask> none;
  options.pop_back();
  expect_refused(
      {{"methods", [&] { fit_together(none, {}, *task_.training, *task_.validation); },
        "methods has to be at least one"},
       {"options", [&] { fit_together(both, options, *task_.training, *task_.validation); },
        "options has to be 2, one per method, but got 1"}});
}

}  // namespace
}  // namespace diffmask
