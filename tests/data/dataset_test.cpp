#include "diffmask/data/dataset.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

using Column = PaddedDataset::Column;

// Four examples of lengths 2, 3, 1, 2 whose tokens tell example and position: 10 example +
// position.
PaddedDataset four() {
  const at::Tensor tokens = at::arange(4).view({4, 1}) * 10 + at::arange(5);
  return PaddedDataset({{tokens, /*is_sequence=*/true}, {at::arange(4) * 100}},
                       at::tensor({2, 3, 1, 2}, at::kLong), at::arange(4) % 2);
}

TEST(PaddedDatasetTest, CutsABatchToItsLongest) {
  const PaddedDataset data = four();
  EXPECT_EQ(data.size(), 4);
  EXPECT_EQ(data.length(1), 3);
  EXPECT_EQ(data.longest(), 3);
  const Batch batch = data.batch({3, 2});
  EXPECT_NO_THROW(batch.validate());
  ASSERT_EQ(batch.inputs.size(), 3u);
  EXPECT_TRUE(batch.inputs[0].equal(at::tensor({30, 31, 20, 21}, at::kLong).view({2, 2})));
  EXPECT_TRUE(batch.inputs[1].equal(at::tensor({300, 200}, at::kLong)));
  EXPECT_TRUE(batch.mask.equal(at::tensor({1, 1, 1, 0}).view({2, 2}).to(at::kBool)));
  EXPECT_TRUE(batch.inputs[2].equal(batch.mask));
  EXPECT_TRUE(batch.examples.equal(at::tensor({3, 2}, at::kLong)));
  EXPECT_TRUE(batch.labels.equal(at::tensor({1, 0}, at::kLong)));
}

TEST(PaddedDatasetTest, LeavesOutMaskAndLabelsWhereNotWanted) {
  const PaddedDataset data({{at::zeros({2, 3}), true}}, at::tensor({1, 3}, at::kLong), {},
                           /*mask_is_input=*/false);
  EXPECT_EQ(data.batch({0}).inputs.size(), 1u);
  EXPECT_FALSE(data.batch({0}).labels.defined());
}

TEST(PaddedDatasetTest, ReadsLengthsThatAreAColumnOfATable) {
  const at::Tensor table = at::tensor({1, 7, 2, 7, 3, 7}, at::kLong).view({3, 2});
  const PaddedDataset data({{at::zeros({3, 3}), true}}, table.select(1, 0));
  EXPECT_EQ(data.length(0), 1);
  EXPECT_EQ(data.length(1), 2);
  EXPECT_EQ(data.length(2), 3);
}

TEST(PaddedDatasetTest, RefusesBadInput) {
  const at::TensorOptions elsewhere(c10::kMeta);
  const at::Tensor lengths = at::tensor({2, 1}, at::kLong), tokens = at::zeros({2, 2});
  const auto make = [](std::vector<Column> columns, at::Tensor lengths, at::Tensor labels = {}) {
    return [=] { PaddedDataset(columns, lengths, labels); };
  };
  expect_refused({
      {"no lengths", make({}, {}), "lengths has to be an int64 tensor of shape (N)"},
      {"lengths' dtype", make({}, at::ones({2})), "an int64 tensor"},
      {"lengths' shape", make({}, lengths.view({1, 2})), "(1, 2)"},
      {"no example", make({}, at::zeros({0}, at::kLong)), "at least one example"},
      {"empty sequence", make({}, at::tensor({1, 0}, at::kLong)), "lengths has to be >= 1"},
      {"undefined column", make({{at::Tensor()}}, lengths), "columns[0]"},
      {"column of more examples", make({{tokens}, {at::zeros({3})}}, lengths),
       "columns[1] has to be of 2 examples, but got (3)"},
      {"sequence too short", make({{at::zeros({2, 1}), true}}, lengths), "as long as the longest"},
      {"sequence without positions", make({{at::zeros({2}), true}}, lengths), "as the longest"},
      {"lengths elsewhere", make({}, at::ones({2}, elsewhere.dtype(at::kLong))),
       "lengths has to be on the CPU (batches are moved to the model's device), but got meta"},
      {"a column elsewhere", make({{tokens}, {at::ones({2}, elsewhere)}}, lengths),
       "columns[1] has to be on the CPU"},
      {"labels elsewhere", make({{tokens}}, lengths, at::ones({2}, elsewhere)),
       "labels has to be on the CPU"},
      {"labels' shape", make({{tokens}}, lengths, at::zeros({3})), "labels"},
      {"empty batch", [] { four().batch({}); }, "examples has to be at least one"},
      {"example 4 of 4",
       [] {
         four().batch({0, 4});
       },
       "examples has to be in 0..3, but got 4"},
      {"example -1", [] { four().batch({-1}); }, "but got -1"},
  });
}

TEST(SubsetTest, NumbersItsExamplesAnew) {
  const PaddedDataset data = four();
  const Subset subset(borrowed(data), {3, 1});
  EXPECT_EQ(subset.size(), 2);
  EXPECT_EQ(subset.length(1), 3);
  EXPECT_EQ(subset.longest(), 3);
  const Batch batch = subset.batch({1, 0}), same = data.batch({1, 3});
  EXPECT_TRUE(batch.examples.equal(at::tensor({1, 0}, at::kLong)));
  EXPECT_TRUE(batch.inputs[0].equal(same.inputs[0]));
  EXPECT_TRUE(batch.labels.equal(same.labels));
  expect_refused({
      {"none", [&] { Subset(borrowed(data), {}); }, "examples has to be at least one"},
      {"not the data set's", [&] { Subset(borrowed(data), {4}); }, "in 0..3, but got 4"},
      {"no data set", [&] { Subset(nullptr, {0}); }, "data has to be a data set"},
  });
}

TEST(SubsetTest, OwnsWhatItReadsUnlessThatIsBorrowed) {
  auto data = std::make_shared<const PaddedDataset>(four());
  const std::weak_ptr<const PaddedDataset> watched = data;
  auto subset = std::make_unique<Subset>(data, std::vector<int64_t>{1});
  const auto lent = std::make_unique<Subset>(borrowed(*data), std::vector<int64_t>{1});
  data.reset();
  ASSERT_FALSE(watched.expired()) << "the subset keeps it";
  EXPECT_EQ(subset->length(0), 3);
  subset.reset();
  EXPECT_TRUE(watched.expired()) << "a borrowed pointer does not";
}

TEST(BatchRowsTest, AreNumberedAnewAndKeepAllOfTheBatch) {
  Batch all{{at::arange(6).view({3, 2})},
            at::ones({3, 2}, at::kBool),
            at::tensor({7, 8, 9}),
            at::tensor({4, 5, 6})};
  all.groups = at::arange(6).view({3, 2}).remainder(2);
  const BatchRows rows(all);
  EXPECT_EQ(rows.size(), 3);
  EXPECT_EQ(rows.length(1), 2);
  const Batch batch = rows.batch({2, 0});
  EXPECT_TRUE(batch.inputs.at(0).equal(at::tensor({4, 5, 0, 1}).view({2, 2})));
  EXPECT_TRUE(batch.labels.equal(at::tensor({6, 4})));
  EXPECT_TRUE(batch.examples.equal(at::tensor({2, 0})));
  EXPECT_TRUE(batch.groups.equal(all.groups.narrow(0, 0, 2)));
  EXPECT_NO_THROW(batch.validate());
}

TEST(LengthBatchesTest, HoldsEveryExampleOnceInOrderOfLength) {
  const auto batches = length_batches(four(), 3);
  EXPECT_EQ(batches, (std::vector<std::vector<int64_t>>{{2, 0, 3}, {1}}));
  EXPECT_EQ(length_batches(four(), 100).size(), 1u);
  expect_refused({{"size 0", [] { length_batches(four(), 0); }, "batch_size has to be >= 1"}});
}

TEST(LengthBatchesTest, TheTypicalBatchIsTheMiddleOne) {
  EXPECT_EQ(typical_batch(four(), 1), (std::vector<int64_t>{3})) << "of lengths 1, 2, 2, 3";
  EXPECT_EQ(typical_batch(four(), 3), (std::vector<int64_t>{3, 1}))
      << "not one of a single example";
  EXPECT_EQ(typical_batch(four(), 4), (std::vector<int64_t>{2, 0, 3, 1}));
  expect_refused({{"size 0", [] { typical_batch(four(), 0); }, "batch_size has to be >= 1"}});
}

TEST(EvenBatchesTest, AreAsFewAsCanBeAndDifferByAtMostOne) {
  using Batches = std::vector<std::vector<int64_t>>;
  EXPECT_EQ(even_batches({4, 1, 3, 0, 2}, 2), (Batches{{4}, {1, 3}, {0, 2}}));
  EXPECT_EQ(even_batches({4, 1, 3, 0}, 2), (Batches{{4, 1}, {3, 0}}));
  EXPECT_EQ(even_batches({4, 1}, 100), (Batches{{4, 1}}));
  EXPECT_TRUE(even_batches({}, 2).empty());
  for (const int64_t size : {1, 63, 64, 65, 128, 129, 1000}) {
    SCOPED_TRACE(size);
    std::vector<int64_t> joined;
    size_t smallest = 64, largest = 0;
    const auto batches = even_batches(iota(size), 64);
    for (const auto& batch : batches) {
      smallest = std::min(smallest, batch.size());
      largest = std::max(largest, batch.size());
      joined.insert(joined.end(), batch.begin(), batch.end());
    }
    EXPECT_EQ(batches.size(), batches_of(iota(size), 64).size());
    EXPECT_LE(largest, std::min<size_t>(64, smallest + 1));
    EXPECT_EQ(joined, iota(size));
  }
  expect_refused({{"size 0", [] { even_batches({1}, 0); }, "batch_size has to be >= 1"}});
}

TEST(EvenlyTest, SpacesSomeOfAll) {
  using Indices = std::vector<int64_t>;
  EXPECT_EQ(evenly(10, 4), (Indices{0, 2, 5, 7}));
  EXPECT_EQ(evenly(3, 2), (Indices{0, 1}));
  EXPECT_EQ(evenly(3, 3), iota(3));
  EXPECT_EQ(evenly(3, 5), iota(3));
  EXPECT_EQ(evenly(3, 0), iota(3));
  expect_refused({{"count", [] { evenly(3, -1); }, "count has to be >= 0, but got -1"}});
}

TEST(BatchesOfTest, KeepsTheOrder) {
  EXPECT_EQ(batches_of({4, 1, 3}, 2), (std::vector<std::vector<int64_t>>{{4, 1}, {3}}));
  EXPECT_TRUE(batches_of({}, 2).empty());
}

TEST(ShuffledTest, IsAPermutationThatTheSeedDecides) {
  const auto order = shuffled(50, make_generator(1));
  EXPECT_EQ(order, shuffled(50, make_generator(1)));
  EXPECT_NE(order, shuffled(50, make_generator(2)));
  auto sorted = order, expected = order;
  std::sort(sorted.begin(), sorted.end());
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(sorted, expected);
}

}  // namespace
}  // namespace diffmask
