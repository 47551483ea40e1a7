#include "diffmask/zoo/tasks/review_task.hpp"

#include <gtest/gtest.h>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

TEST(ReviewTaskTest, IsTrainedAndExplainedByItsOwnRecipe) {
  const ReviewTask task = make_review_task(made_reviews(100, make_generator(0)), /*classes=*/3);
  const Batch batch = task.data.held_out.batch({0, 1, 2});
  const at::Tensor before = task.model->record(batch.inputs).output();
  EXPECT_EQ(before.size(1), 3);
  EXPECT_EQ(task.train(/*epochs=*/1).epoch, 1);
  EXPECT_FALSE(task.model->record(batch.inputs).output().equal(before));
  EXPECT_FALSE(task.net->is_training());
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    DiffMask method(task.model, task.explainer(masking));
    TrainerOptions trainer = task.trainer(0.1, /*steps=*/2);
    trainer.recipe.warm_up = 1;
    EXPECT_EQ(method.fit(task.data.training, task.data.development, trainer).steps, 2);
    EXPECT_EQ(method.attribute(batch).sites, task.model->site_names());
  }
}

TEST(ReviewTaskTest, ItsNetIsDrawnByTheSeed) {
  const auto reviews = made_reviews(60, make_generator(0));
  const auto output = [&](uint64_t seed) {
    const ReviewTask task = make_review_task(reviews, 5, seed);
    return task.model->record(task.data.held_out.batch({0}).inputs).output();
  };
  EXPECT_TRUE(output(1).equal(output(1)));
  EXPECT_FALSE(output(1).equal(output(2)));
  EXPECT_EQ(make_review_task(reviews, 5, 7).trainer(0.1).seed, 7u);
  expect_refused({{"few",
                   [&] {
                     make_review_task({reviews.begin(), reviews.begin() + 20});
                   },
                   "50"}});
}

}  // namespace
}  // namespace diffmask
