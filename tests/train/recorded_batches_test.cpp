#include "diffmask/train/recorded_batches.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/bad_input.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

const std::vector<std::string> kSites = {"low", "high"};

std::vector<int64_t> numbers(const Batch& batch) {
  const at::Tensor& examples = batch.examples;
  return {examples.data_ptr<int64_t>(), examples.data_ptr<int64_t>() + examples.numel()};
}

// The examples of the next `count` batches, in order.
std::vector<int64_t> next_examples(RecordedBatches& batches, int64_t count,
                                   at::Generator generator) {
  std::vector<int64_t> all;
  for (int64_t i = 0; i < count; ++i) {
    for (const int64_t example : numbers(batches.next(generator)->batch)) all.push_back(example);
  }
  return all;
}

TEST(RecordedBatchesTest, AnEpochHoldsEachExampleOnce) {
  const TrainingTask task = training_task();
  for (const bool by_length : {false, true}) {
    RecordedBatches batches(*task.model, *task.training, kSites,
                            {.batch_size = 10, .by_length = by_length}, make_generator(1));
    EXPECT_EQ(batches.size(), 5);
    const at::Generator generator = make_generator(2);
    std::vector<int64_t> first = next_examples(batches, 5, generator);
    std::vector<int64_t> second = next_examples(batches, 5, generator);
    EXPECT_NE(first, second) << "epochs of one order";
    std::sort(first.begin(), first.end());
    std::sort(second.begin(), second.end());
    EXPECT_EQ(first, iota(48));
    EXPECT_EQ(second, iota(48));
  }
}

TEST(RecordedBatchesTest, TheSeedDecidesCutAndOrder) {
  const TrainingTask task = training_task();
  const auto examples = [&](uint64_t cut, uint64_t order) {
    RecordedBatches batches(*task.model, *task.training, kSites, {.batch_size = 10},
                            make_generator(cut));
    return next_examples(batches, 10, make_generator(order));
  };
  EXPECT_EQ(examples(1, 2), examples(1, 2));
  EXPECT_NE(examples(1, 2), examples(3, 2));
  EXPECT_NE(examples(1, 2), examples(1, 3));
}

TEST(RecordedBatchesTest, CutsByLengthOnDemandAndWithoutAGenerator) {
  const TrainingTask task = training_task();
  RecordedBatches by_length(*task.model, *task.training, kSites,
                            {.batch_size = 10, .by_length = true}, make_generator(1));
  RecordedBatches in_order(*task.model, *task.training, kSites, {.batch_size = 10});
  int64_t last = 0;
  for (int64_t i = 0; i < by_length.size(); ++i) {
    const auto examples = numbers(by_length.at(i)->batch);
    EXPECT_EQ(examples, numbers(in_order.at(i)->batch));
    for (const int64_t example : examples) {
      EXPECT_GE(task.training->length(example), last);
      last = task.training->length(example);
    }
  }
  EXPECT_GT(last, 1);
}

TEST(RecordedBatchesTest, KeptRecordingsEqualFreshOnes) {
  const TrainingTask task = training_task();
  RecordedBatches batches(*task.model, *task.training, {"high"}, {.batch_size = 10},
                          make_generator(1));
  for (int64_t i = 0; i < batches.size(); ++i) {
    const auto item = batches.at(i);
    EXPECT_EQ(batches.at(i), item) << "was recorded again";
    const Batch batch = task.training->batch(numbers(item->batch));
    const Recording fresh = task.model->record(batch.inputs);
    EXPECT_TRUE(item->batch.mask.equal(batch.mask));
    EXPECT_TRUE(item->recording.inputs()[0].equal(batch.inputs[0]));
    EXPECT_TRUE(item->recording.state("high").equal(fresh.state("high")));
    EXPECT_TRUE(item->recording.output().equal(fresh.output()));
    EXPECT_FALSE(item->recording.has("low")) << "a site nobody asked for";
  }
}

// Five sequences of five positions a batch: 60 bytes an input position, 80 a state's.
TEST(RecordedBatchesTest, KeepsNoMoreThanTheBudget) {
  const TrainingTask task = training_task();
  const PaddedDataset data({{at::randn({50, 5, 3}, make_generator(1)), true}},
                           at::full({50}, 5, at::TensorOptions(at::kLong)));
  constexpr int64_t kStates = 10 * 5 * (4 + 4) * 4 + 10 * 2 * 4, kInputs = 10 * 5 * (3 * 4 + 1);
  constexpr int64_t kBatch = kStates + 2 * kInputs;  // the inputs stand in batch and recording
  for (const auto& [budget, kept] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 0}, {kBatch - 1, 0}, {kBatch, 1}, {3 * kBatch - 1, 2}, {5 * kBatch, 5}}) {
    SCOPED_TRACE(budget);
    RecordedBatches batches(*task.model, data, kSites, {.batch_size = 10, .cache_bytes = budget},
                            make_generator(1));
    std::vector<at::Tensor> first;
    for (int64_t i = 0; i < 5; ++i) first.push_back(batches.at(i)->recording.output());
    const int64_t before = *task.runs;
    for (int64_t i = 0; i < 5; ++i) {
      EXPECT_TRUE(batches.at(i)->recording.output().equal(first[static_cast<size_t>(i)]));
    }
    EXPECT_EQ(*task.runs - before, 5 - kept);
  }
}

TEST(RecordedBatchesTest, RefusesBadInput) {
  const TrainingTask task = training_task();
  const ImageData none(0, 1);
  const auto make = [&](const Dataset& data, std::vector<std::string> sites, BatchOptions options) {
    return [&task, &data, sites, options] {
      RecordedBatches(*task.model, data, sites, options).at(0);
    };
  };
  expect_refused({
      {"batch size 0", make(*task.training, kSites, {.batch_size = 0}),
       "batch_size has to be >= 1, but got 0"},
      {"cache -1", make(*task.training, kSites, {.cache_bytes = -1}),
       "cache_bytes has to be >= 0, but got -1"},
      {"no data", make(none, kSites, {}), "data has to be of at least one example, but got 0"},
      {"unknown site", make(*task.training, {"hihg"}, {}), "'hihg' (nearest: high, "},
  });
}

}  // namespace
}  // namespace diffmask
