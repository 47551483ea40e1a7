#include "diffmask/attribution/passes.hpp"

#include <gtest/gtest.h>

#include "diffmask/attribution/erasure/erasure.hpp"
#include "src/attribution/memory_meter.hpp"
#include "tests/attribution/example_nets.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

class PassesTest : public testing::Test {
 protected:
  // y = 2 x + 1 of each row, in chunks of sizes_.
  at::Tensor run(const at::Tensor& rows, PassOptions options) {
    Passes passes(*model_, recording_, std::move(options));
    std::vector<at::Tensor> outputs;
    passes.each({"input"}, rows, [&](const Passes::Chunk& chunk) {
      const at::Tensor state = chunk.recording.state("input");
      EXPECT_EQ(state.size(0), chunk.end - chunk.begin);
      outputs.push_back(model_->resume(chunk.recording, "input", state * 2));
      sizes_.push_back(state.size(0));
    });
    EXPECT_EQ(passes.count(), rows.size(0));
    return at::cat(outputs);
  }

  int64_t fails_above_ = 1000;
  const std::shared_ptr<StagedModel> model_ = net_of([this](const at::Tensor& x) {
    if (x.size(0) > fails_above_) throw std::runtime_error("[enforce] can't allocate memory");
    return x.sum({1, 2}).add(1);
  });
  const at::Tensor x_ = at::randn({3, 2, 4}, make_generator(1));
  const Recording recording_ = model_->record({x_}, {"input"});
  const at::Tensor rows_ = at::arange(3).repeat({7});  // 21 rows
  const at::Tensor expected_ = x_.sum({1, 2}).mul(2).add(1).repeat({7});
  std::vector<int64_t> sizes_;
};

TEST_F(PassesTest, EveryRowRunsOnceInWholeMultiplesOfTheBatch) {
  EXPECT_TRUE(at::allclose(run(rows_, {.max_batch = 8}), expected_));
  EXPECT_EQ(sizes_, (std::vector<int64_t>{6, 6, 6, 3}));
  sizes_.clear();
  EXPECT_TRUE(at::allclose(run(rows_, {.max_batch = 2}), expected_));
  EXPECT_EQ(sizes_.size(), 11u);
  EXPECT_TRUE(at::allclose(run(at::full({4}, 2, at::kLong), {}), expected_[2].expand({4})));
}

TEST_F(PassesTest, HalvesWhereMemoryRunsOut) {
  fails_above_ = 4;
  EXPECT_TRUE(at::allclose(run(rows_, {.max_batch = 16}), expected_));
  EXPECT_EQ(sizes_.front(), 3);  // 15, 7, 3
  EXPECT_EQ(sizes_.size(), 7u);
  fails_above_ = 0;
  EXPECT_THROW(run(rows_, {}), std::runtime_error);
}

TEST_F(PassesTest, MemoryFollowsTheBudget) {
  const at::Tensor wide = at::randn({3, 50, 40}, make_generator(1));
  const Recording recording = model_->record({wide}, {"input"});
  const at::Tensor rows = at::arange(3).repeat({200});
  for (const int64_t budget : {100000, 400000, 1600000}) {
    Passes passes(*model_, recording, {.max_batch = 1000, .memory = budget});
    int64_t largest = 0, most_rows = 0;
    passes.each({"input"}, rows, [&](const Passes::Chunk& chunk) {
      if (chunk.end - chunk.begin == 1) {  // the pass that is measured, by a meter of its own
        model_->resume(chunk.recording, "input", chunk.recording.state("input") * 2);
        return;
      }
      const MemoryMeter meter;
      model_->resume(chunk.recording, "input", chunk.recording.state("input") * 2);
      largest = std::max(largest, meter.peak());
      most_rows = std::max(most_rows, chunk.end - chunk.begin);
    });
    EXPECT_GT(largest, 0) << "nothing was measured";
    EXPECT_LE(largest, budget);
    EXPECT_GT(most_rows * 5 * 8000, budget / 2) << "a row of 8000 bytes is held a few times";
  }
}

TEST_F(PassesTest, ShowsProgressAndCanBeCancelled) {
  std::vector<std::pair<int64_t, int64_t>> seen;
  const Callback watch = [&](const Progress& now) {
    seen.emplace_back(now.step, now.steps);
    return seen.size() < 3 ? Action::proceed : Action::stop;
  };
  EXPECT_THROW(run(rows_, {.max_batch = 6, .progress = watch}), Cancelled);
  EXPECT_EQ(seen, (std::vector<std::pair<int64_t, int64_t>>{{6, 21}, {12, 21}, {18, 21}}));
}

TEST_F(PassesTest, RefusesBadInput) {
  expect_refused({
      {"no rows a pass", [&] { run(rows_, {.max_batch = 0}); }, "max_batch has to be >= 1"},
      {"negative budget", [&] { run(rows_, {.memory = -1}); }, "memory has to be >= 0 bytes"},
      {"too small", [&] { run(rows_, {.memory = 40}); }, "bytes that a pass of one row takes"},
      {"no such example", [&] { run(at::full({1}, 3, at::kLong), {}); },
       "rows has to be in [0, 3), but got 3"},
  });
}

}  // namespace
}  // namespace diffmask
