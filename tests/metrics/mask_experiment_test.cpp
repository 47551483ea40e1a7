#include "diffmask/metrics/mask_score.hpp"

#include <gtest/gtest.h>

#include "diffmask/metrics/classification.hpp"
#include "diffmask/objective/divergence.hpp"
#include "tests/bad_input.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

class MaskScoreTest : public testing::Test {
 protected:
  MaskScoreTest()
      : data_(*task_.model, *task_.validation, task_.model->site_names(), {.batch_size = 8}) {
    const auto item = data_.at(0);
    explainer_ = std::make_shared<Explainer>(*task_.model, ExplainerOptions{}, item->recording,
                                             item->batch, Capacity{}, make_generator(5));
  }

  MaskScore score(const Masks& masks, int64_t depth = 0) {
    return score_masks(*task_.model, *explainer_, depth, data_, 0.01, 2, masks);
  }

  TrainingTask task_ = training_task();
  RecordedBatches data_;
  std::shared_ptr<Explainer> explainer_;
};

at::Tensor ones(const RecordedBatch& item) { return at::ones(item.batch.mask.sizes()); }
at::Tensor zeros(const RecordedBatch& item) { return at::zeros(item.batch.mask.sizes()); }

TEST_F(MaskScoreTest, IsTheModelsOwnWhereNothingIsMasked) {
  std::vector<at::Tensor> predicted, labels;
  for (int64_t i = 0; i < data_.size(); ++i) {
    predicted.push_back(data_.at(i)->recording.output().argmax(1));
    labels.push_back(data_.at(i)->batch.labels);
  }
  const MaskScore result = score(ones);
  EXPECT_EQ(result.accuracy, accuracy(at::cat(predicted), at::cat(labels)));
  EXPECT_EQ(result.macro_f1, macro_f1(at::cat(predicted), at::cat(labels), 2));
  EXPECT_EQ(result.masked_share, 0);
  EXPECT_NEAR(result.divergence, 0, 1e-7);
  EXPECT_EQ(result.within_epsilon, 1);
}

TEST_F(MaskScoreTest, CountsPositionsOfTheMaskAndExamplesWithinEpsilon) {
  const MaskScore all = score(zeros);
  EXPECT_EQ(all.masked_share, 1);
  EXPECT_GT(all.divergence, 0.05);
  EXPECT_LT(all.within_epsilon, 1);
  // Only the first position of each example is kept: 1 - mean(1 / length).
  const MaskScore most = score([](const RecordedBatch& item) {
    const at::Tensor z = zeros(item);
    z.select(1, 0).fill_(1);
    return z;
  });
  const at::Tensor lengths = task_.validation->lengths().to(at::kDouble);
  EXPECT_NEAR(most.masked_share, 1 - lengths.reciprocal().mean().item<double>(), 1e-6);
}

TEST_F(MaskScoreTest, RandomMasksAreAsLarge) {
  const auto scores = [&](int64_t draws) {
    return score_depth(*task_.model, *explainer_, 1, data_, 0.01, 2, draws, make_generator(1));
  };
  const MaskScores result = scores(3);
  EXPECT_NEAR(result.random.masked_share, result.chosen.masked_share, 1e-6);
  EXPECT_EQ(result.random.divergence, scores(3).random.divergence) << "same seed, same bits";
  expect_refused({{"draws", [&] { scores(0); }, "draws has to be >= 1, but got 0"}});
}

TEST(MaskScoreSumTest, AddsWithAWeight) {
  MaskScore sum{1, 2, 3, 4, 5};
  sum.add({2, 4, 6, 8, 10}, 0.5);
  EXPECT_EQ(sum.accuracy, 2);
  EXPECT_EQ(sum.macro_f1, 4);
  EXPECT_EQ(sum.masked_share, 6);
  EXPECT_EQ(sum.divergence, 8);
  EXPECT_EQ(sum.within_epsilon, 10);
}

}  // namespace
}  // namespace diffmask
