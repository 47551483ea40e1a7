#include "diffmask/attribution/data_scores.hpp"

#include <gtest/gtest.h>

#include "diffmask/attribution/controls.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

TEST(DataScoresTest, AreEachExamplesOwnInTheDatasOrder) {
  const TrainingTask task = training_task();
  const Gradient method(task.model);
  const auto scores = data_scores(method, *task.validation, 7);
  ASSERT_EQ(static_cast<int64_t>(scores.size()), task.validation->size());
  for (const int64_t example : {0, 5, 19}) {
    const auto alone = method.attribute(task.validation->batch({example})).scores[0];
    EXPECT_TRUE(scores[static_cast<size_t>(example)].allclose(alone)) << example;
  }
}

}  // namespace
}  // namespace diffmask
