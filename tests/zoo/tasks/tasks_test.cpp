#include "diffmask/zoo/tasks/tasks.hpp"

#include <gtest/gtest.h>

#include <set>

#include "diffmask/core/random.hpp"
#include "diffmask/zoo/data/graphs.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

using Ids = std::vector<int64_t>;

Ids row(const at::Tensor& tokens, int64_t i) {
  const at::Tensor one = tokens[i].contiguous();
  return {one.data_ptr<int64_t>(), one.data_ptr<int64_t>() + one.numel()};
}

int64_t majority(const Ids& x) {
  return std::count(x.begin(), x.end(), 1) > std::count(x.begin(), x.end(), 2) ? 1 : 0;
}
int64_t lookup(const Ids& x) { return x.at(x[0]) - 1; }
int64_t two_hop(const Ids& x) { return x.at(x.at(x[0])) - 1; }
int64_t palindrome(const Ids& x) { return std::equal(x.begin(), x.end(), x.rbegin()) ? 0 : 1; }

/// What the tasks are, said once more and apart from the library.
struct Known {
  std::string name;
  int64_t length, low, high;      ///< tokens are from low to high
  int64_t other_low, other_high;  ///< and outside of the truth may be any of these
  std::function<int64_t(const Ids&)> label;
  double chance;  ///< share of the likeliest class
};

const std::vector<Known>& known() {
  static const std::vector<Known> all = {{"majority", 9, 1, 8, 3, 8, majority, 1 / 2.0},
                                         {"lookup", 8, 1, 7, 1, 7, lookup, 1 / 7.0},
                                         {"two_hop", 8, 1, 7, 1, 7, two_hop, 1 / 7.0},
                                         {"palindrome", 8, 1, 4, 1, 4, palindrome, 1 / 2.0}};
  return all;
}

constexpr int64_t kSize = 2000;

struct Drawn {
  TaskData task;
  Batch batch;
  at::Tensor tokens;
};

Drawn all_of(const TaskData& data) {
  const Batch batch = data.data->batch(iota(data.data->size()));
  return {data, batch, batch.inputs.at(0)};
}

Drawn drawn(const std::string& name, uint64_t seed = 0) {
  return all_of(task(name).make(kSize, make_generator(seed)));
}

/// Those that have an answer.
Drawn answered(const std::string& name) { return all_of(drawn(name).task.answered()); }

TEST(TasksTest, LabelsAreWhatTheTaskSays) {
  for (const Known& k : known()) {
    SCOPED_TRACE(k.name);
    const auto [data, batch, tokens] = drawn(k.name);
    ASSERT_NO_THROW(batch.validate());
    ASSERT_EQ(tokens.sizes(), at::IntArrayRef({kSize, k.length}));
    ASSERT_EQ(data.truth.sizes(), tokens.sizes());
    ASSERT_EQ(data.truth.scalar_type(), at::kBool);
    EXPECT_TRUE(batch.inputs.at(1).equal(batch.mask));
    EXPECT_TRUE(batch.mask.all().item<bool>());
    EXPECT_EQ(tokens.min().item<int64_t>(), k.low);
    EXPECT_EQ(tokens.max().item<int64_t>(), k.high);
    EXPECT_EQ(task(k.name).vocabulary, k.high + 1);
    EXPECT_EQ(batch.labels.max().item<int64_t>() + 1, task(k.name).classes);
    for (int64_t i = 0; i < kSize; ++i) {
      ASSERT_EQ(batch.labels[i].item<int64_t>(), k.label(row(tokens, i))) << "row " << i;
    }
    // Classes alike, within five standard deviations of a binomial share.
    const at::Tensor shares = batch.labels.bincount().to(at::kDouble) / kSize;
    const double deviation = std::sqrt(k.chance * (1 - k.chance) / kSize);
    EXPECT_NEAR(shares.max().item<double>(), k.chance, 5 * deviation);
    EXPECT_NEAR(shares.min().item<double>(), k.chance, 5 * deviation);
  }
}

TEST(TasksTest, TheTruthFixesTheLabel) {
  for (const Known& k : known()) {
    SCOPED_TRACE(k.name);
    const auto [data, batch, tokens] = answered(k.name);
    const at::Generator generator = make_generator(1);
    int64_t moved = 0;
    for (int draw = 0; draw < 3; ++draw) {
      const at::Tensor others = at::randint(k.other_low, k.other_high + 1, tokens.sizes(),
                                            generator, at::TensorOptions(at::kLong));
      const at::Tensor resampled = at::where(data.truth, tokens, others);
      for (int64_t i = 0; i < batch.size(); ++i) {
        ASSERT_EQ(k.label(row(resampled, i)), batch.labels[i].item<int64_t>()) << "row " << i;
        moved += resampled[i].equal(tokens[i]) ? 0 : 1;
      }
    }
    EXPECT_GT(moved, batch.size()) << "else nothing is tested";
  }
}

// One position less, and the label may be another one. Majority's truth is no smallest set.
TEST(TasksTest, TheTruthIsNoLargerThanItHasToBe) {
  for (const Known& k : known()) {
    if (k.name == "majority") continue;
    SCOPED_TRACE(k.name);
    const auto [data, batch, tokens] = answered(k.name);
    for (int64_t i = 0; i < 50; ++i) {
      for (int64_t t = 0; t < k.length; ++t) {
        if (!data.truth[i][t].item<bool>()) continue;
        bool changes = false;
        for (int64_t token = k.low; token <= k.high; ++token) {
          for (int64_t others = k.low; others <= k.high; ++others) {
            at::Tensor x = tokens[i].masked_fill(data.truth[i].logical_not(), others);
            if (k.name == "palindrome") x = tokens[i].clone();
            x[t] = token;
            changes = changes || k.label(row(x.unsqueeze(0), 0)) != batch.labels[i].item<int64_t>();
          }
        }
        EXPECT_TRUE(changes) << "row " << i << ", position " << t;
      }
    }
  }
}

TEST(TasksTest, TruthsHaveTheirSizes) {
  const auto sizes = [](const std::string& name) { return drawn(name).task.truth.sum(1); };
  const at::Tensor votes = sizes("majority");
  EXPECT_TRUE(votes.remainder(2).eq(1).all().item<bool>()) << "no ties";
  EXPECT_EQ(votes.min().item<int64_t>(), 1);
  EXPECT_EQ(votes.max().item<int64_t>(), 5);
  EXPECT_TRUE(sizes("lookup").eq(2).all().item<bool>());
  EXPECT_TRUE(sizes("two_hop").eq(3).all().item<bool>());
  const auto [data, batch, tokens] = drawn("palindrome");
  EXPECT_TRUE(data.truth.sum(1).equal(2 * batch.labels)) << "a palindrome has no unique answer";
}

TEST(TasksTest, AnsweredExamplesKeepTheirOrder) {
  const Drawn all = drawn("palindrome"), some = answered("palindrome");
  const at::Tensor rows = all.batch.labels.eq(1).nonzero().squeeze(1);
  ASSERT_EQ(some.task.data->size(), rows.size(0));
  EXPECT_TRUE(some.tokens.equal(all.tokens.index_select(0, rows)));
  EXPECT_TRUE(some.task.truth.equal(all.task.truth.index_select(0, rows)));
  EXPECT_TRUE(some.batch.labels.eq(1).all().item<bool>());
  // It lives on without what it was taken from, and is numbered anew.
  EXPECT_TRUE(some.batch.examples.equal(at::arange(rows.size(0))));
  const TaskData none{all.task.data, at::zeros_like(all.task.truth)};
  expect_refused({{"none", [&] { none.answered(); }, "examples has to be at least one"}});
}

TEST(TasksTest, CountingIsOneOfThem) {
  const auto [data, batch, tokens] = drawn("counting");
  ASSERT_NO_THROW(batch.validate());
  const at::Tensor queries = batch.inputs.at(1);
  EXPECT_TRUE(batch.inputs.at(2).equal(batch.mask));
  const auto holds = [&, &batch = batch, &tokens = tokens](int64_t query) {
    return tokens.eq(queries.narrow(1, query, 1)).logical_and(batch.mask);
  };
  EXPECT_TRUE(data.truth.equal(holds(0).logical_or(holds(1))));
  EXPECT_TRUE(batch.labels.equal(holds(0).sum(1).gt(holds(1).sum(1)).to(at::kLong)));
  EXPECT_LT(answered("counting").batch.size(), kSize) << "some hold neither digit";
}

// 30 nodes of the base and 8 houses in each graph; a house's nodes come in the order that its edges
// are listed by in zoo/data/motif_graphs.cpp: two in the middle, two at the bottom, the top.
TEST(TasksTest, BaShapesAsksForTheHousesEdges) {
  const auto [drawn, batch, features] = all_of(task("ba_shapes").make(300, make_generator(0)));
  ASSERT_NO_THROW(batch.validate());
  ASSERT_EQ(drawn.truth.sizes(), batch.mask.sizes());
  const auto& data = dynamic_cast<const NodeDataset&>(*drawn.data);
  ASSERT_EQ(data.graph().nodes(), 5 * 70);
  EXPECT_EQ(std::set<int64_t>(data.nodes().begin(), data.nodes().end()).size(), 300u);
  const std::set<std::pair<int64_t, int64_t>> house = {{0, 1}, {1, 2}, {2, 3},
                                                       {0, 3}, {0, 4}, {1, 4}};
  const at::Tensor numbers = data.edges(iota(300)), ends = data.graph().edges;
  for (int64_t i = 0; i < 300; ++i) {
    SCOPED_TRACE(fmt::format("row {}", i));
    const int64_t node = data.nodes()[i], place = node % 70 - 30, first = node - place % 5;
    EXPECT_EQ(batch.labels[i].item<int64_t>(), place < 0 ? 0 : Ids({1, 1, 2, 2, 3})[place % 5]);
    int64_t right = 0;
    for (int64_t p = 0; p < data.length(i); ++p) {
      const int64_t edge = numbers[i][p].item<int64_t>();
      const auto [low, high] = std::minmax(
          {ends[0][edge].item<int64_t>() - first, ends[1][edge].item<int64_t>() - first});
      const bool is_true = place >= 0 && house.contains({low, high});
      EXPECT_EQ(drawn.truth[i][p].item<bool>(), is_true) << low << " to " << high;
      right += is_true ? 1 : 0;
    }
    EXPECT_EQ(right, place < 0 ? 0 : 12) << "six edges, both directions";
    EXPECT_EQ(drawn.truth[i].sum().item<int64_t>(), right) << "none at padding";
  }
}

// A batch is as long as its longest example, and so is the truth of those that are left.
TEST(TasksTest, AnsweredExamplesMayBeShorter) {
  const TaskData all = task("ba_shapes").make(100, make_generator(0));
  int64_t shortest = 0;
  for (int64_t i = 0; i < 100; ++i) {
    if (all.data->length(i) < all.data->length(shortest)) shortest = i;
  }
  ASSERT_LT(all.data->length(shortest), all.truth.size(1));
  const at::Tensor only = at::arange(100).eq(shortest).unsqueeze(1);
  ASSERT_TRUE(all.truth[shortest].any().item<bool>());
  const Drawn one = all_of(TaskData{all.data, all.truth.logical_and(only)}.answered());
  EXPECT_EQ(one.task.truth.sizes(), one.batch.mask.sizes());
  EXPECT_EQ(one.task.truth.sum().item<int64_t>(), 12);
}

TEST(TasksTest, SameSeedSameBits) {
  for (const Task& each : tasks()) {
    SCOPED_TRACE(each.name);
    const Drawn first = drawn(each.name, 3), again = drawn(each.name, 3),
                other = drawn(each.name, 4);
    EXPECT_TRUE(first.tokens.equal(again.tokens));
    EXPECT_TRUE(first.batch.labels.equal(again.batch.labels));
    EXPECT_TRUE(first.task.truth.equal(again.task.truth));
    EXPECT_FALSE(first.task.truth.equal(other.task.truth));
  }
}

TEST(TasksTest, RefusesWhatItCannotDraw) {
  std::vector<BadInput> table = {
      {"a name", [] { task("twohop"); }, "task has to be one of counting, majority, lookup"},
      {"its nearest", [] { task("twohop"); }, "'twohop' (nearest: two_hop"},
      {"no name", [] { task(""); }, "task has to be one of"}};
  for (const Task& each : tasks()) {
    for (const int64_t size : {0, -3}) {
      table.push_back({each.name, [&each, size] { each.make(size, make_generator(0)); },
                       fmt::format("size has to be >= 1, but got {}", size)});
    }
  }
  expect_refused(table);
}

}  // namespace
}  // namespace diffmask
