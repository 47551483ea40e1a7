#include "diffmask/attribution/erasure/erasure.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/attribution/example_nets.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

using Empty = ExactSearchOptions::Empty;
using Measure = LeaveOneOutOptions::Measure;
using Set = std::vector<bool>;

Set row(const at::Tensor& keep) {
  Set set;
  for (int64_t t = 0; t < keep.size(0); ++t) set.push_back(keep[t].item<bool>());
  return set;
}

// y = sum of a state's numbers - threshold, of positions with one number: one logit.
std::shared_ptr<StagedModel> sum_net(double threshold) {
  return net_of([threshold](const at::Tensor& x) { return x.sum({1, 2}) - threshold; });
}

Batch numbers(const std::vector<std::vector<float>>& rows) {
  std::vector<at::Tensor> tensors;
  for (const auto& row : rows) tensors.push_back(at::tensor(row));
  return batch_of(at::stack(tensors).unsqueeze(2));
}

AttributionOptions one_logit() {
  AttributionOptions options = at_input();
  options.target = target::scalar;
  return options;
}

TEST(LeaveOneOutTest, IsTheDropOfWhatIsMeasured) {
  const auto model = smooth_net(4, 5, 3, 7);
  Batch batch = batch_of(at::randn({3, 4, 5}, make_generator(1)));
  batch.mask[1][3].fill_(false);
  const at::Tensor y = model->record(batch.inputs).output(), best = y.argmax(1);
  for (const Measure measure : {Measure::logit, Measure::probability, Measure::log_odds}) {
    AttributionOptions options = at_input();
    options.passes.max_batch = 2;
    const Attribution found = LeaveOneOut(model, options, {.measure = measure}).attribute(batch);
    for (int64_t b = 0; b < 3; ++b) {
      const auto m = [&](const at::Tensor& output) {
        const double p = output[b].softmax(0)[best[b]].item<double>();
        if (measure == Measure::logit) return output[b][best[b]].item<double>();
        return measure == Measure::probability ? p : std::log(p / (1 - p));
      };
      for (int64_t t = 0; t < 4; ++t) {
        at::Tensor without = batch.inputs[0].clone();
        without[b][t].fill_(0);
        const bool explained = batch.mask[b][t].item<bool>();
        const double drop = explained ? m(y) - m(model->record({without}).output()) : 0;
        EXPECT_NEAR(found.scores[b][t][0].item<double>(), drop, 1e-4);
      }
    }
    EXPECT_EQ(found.passes, 3 + 11);
    EXPECT_TRUE(found.keep.equal(found.scores.gt(0)));
  }
}

TEST(LeaveOneOutTest, GroupsAreTakenAwayTogether) {
  Batch batch = numbers({{1, 2, 4, 8}});
  batch.groups = at::tensor({2, 2, -1, 0}).view({1, 4}).to(at::kLong);
  const Attribution found = LeaveOneOut(sum_net(0), one_logit()).attribute(batch);
  EXPECT_TRUE(found.scores.flatten().equal(at::tensor({3.F, 3.F, 0.F, 8.F})));
  EXPECT_EQ(found.passes, 1 + 2);
}

TEST(LeaveOneOutTest, AveragesOverSamples) {
  // A fill of 0 and of 2 in turn: y~ is averaged, p~ is averaged before its log-odds are taken.
  int64_t draws = 0;
  AttributionOptions options = one_logit();
  options.fill = [&](const std::string&, const at::Tensor& state) {
    return at::full({}, 2.0 * static_cast<double>(draws++ % 2), state.options());
  };
  const Batch batch = numbers({{3, 1}});
  const auto score = [&](Measure measure) {
    const LeaveOneOut method(sum_net(0), options, {.measure = measure, .samples = 2});
    return method.attribute(batch).scores[0][0][0].item<double>();
  };
  const auto sigmoid = [](double y) { return 1 / (1 + std::exp(-y)); };
  const double p = (sigmoid(1) + sigmoid(3)) / 2;
  EXPECT_NEAR(score(Measure::logit), 4 - 2, 1e-6);
  EXPECT_NEAR(score(Measure::probability), sigmoid(4) - p, 1e-6);
  EXPECT_NEAR(score(Measure::log_odds), 4 - std::log(p / (1 - p)), 1e-5);
}

// All subsets of all positions, one by one.
std::set<Set> smallest_sets(const FrozenModel& model, const at::Tensor& x) {
  const int64_t positions = x.size(1), all = int64_t{1} << positions;
  at::Tensor keep = at::empty({all, positions});
  for (int64_t i = 0; i < all; ++i) {
    for (int64_t t = 0; t < positions; ++t) keep[i][t].fill_(float(i >> t & 1));
  }
  const at::Tensor y = model.record({x * keep.unsqueeze(2)}).output();
  const at::Tensor holds = y.argmax(1).eq(y[all - 1].argmax());
  const at::Tensor size = keep.sum(1).masked_fill(holds.logical_not(), 1e9);
  std::set<Set> sets;
  for (int64_t i = 0; i < all; ++i) {
    if (size[i].item<float>() == size.min().item<float>()) sets.insert(row(keep[i]));
  }
  return sets;
}

TEST(ExactSearchTest, EqualsBruteForceOn200Models) {
  int64_t nonempty = 0, ties = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    const int64_t positions = 3 + static_cast<int64_t>(seed % 3);
    const auto model = smooth_net(positions, 2, 4, seed);
    const Batch batch = batch_of(at::randn({1, positions, 2}, make_generator(seed + 1000)));
    const std::set<Set> expected = smallest_sets(*model, batch.inputs[0]);
    const ExactSearch method(model, at_input());
    const SmallestSets found = method.search(batch)[0];
    std::set<Set> sets;
    for (int64_t i = 0; i < found.sets[0].size(0); ++i) sets.insert(row(found.sets[0][i]));
    ASSERT_EQ(sets, expected);
    EXPECT_EQ(found.proven, std::vector<bool>{true});
    EXPECT_EQ(found.complete, std::vector<bool>{true});
    EXPECT_EQ(found.pruned, std::vector<bool>{false});
    const Attribution scores = method.attribute(batch);
    EXPECT_TRUE(expected.contains(row(scores.keep[0].select(1, 0))));
    EXPECT_NEAR(scores.scores.sum().item<double>(), scores.keep.sum().item<double>(), 1e-5);
    const Attribution beam = BeamSearch(model, at_input()).attribute(batch);
    EXPECT_GE(size_gap(beam, scores).item<double>(), 0);
    if (beam.proven.item<bool>()) {
      EXPECT_EQ(size_gap(beam, scores).item<double>(), 0);
    }
    nonempty += scores.keep.any().item<bool>();
    ties += expected.size() > 1;
  }
  EXPECT_GT(nonempty, 60);
  EXPECT_GT(ties, 20);
}

// Where contributions add up, the largest are the answer, and greedy elimination finds it.
TEST(BeamSearchTest, IsExactWhereContributionsAdd) {
  const at::Tensor x = at::randn({40, 6, 1}, make_generator(3));
  const auto model = sum_net(2.5);
  const Batch batch = batch_of(x);
  const Attribution exact = ExactSearch(model, one_logit()).attribute(batch);
  AttributionOptions positive = one_logit();
  // The sign is the decision: the target is the margin.
  positive.target = [](const at::Tensor& y, const at::Tensor& y0) { return y * y0.sign(); };
  for (const auto rank : {BeamSearchOptions::Rank::erasure, BeamSearchOptions::Rank::gradient}) {
    for (const int64_t beam : {1, 4}) {
      const Attribution found =
          BeamSearch(model, positive, {.rank = rank, .beam = beam}).attribute(batch);
      EXPECT_EQ(size_gap(found, exact).abs().max().item<double>(), 0);
      EXPECT_TRUE(found.scores.to(at::kBool).equal(found.keep));
    }
  }
  EXPECT_GT(exact.keep.sum(1).max().item<int64_t>(), 1);
}

TEST(ExactSearchTest, EmptySetsAndTiesByPolicy) {
  const Batch batch = numbers({{1, 1, 3, 0}, {3, 3, 0, 2}});
  const auto attribute = [&](double threshold, ExactSearchOptions own) {
    return ExactSearch(sum_net(threshold), one_logit(), own).attribute(batch);
  };
  // More than 2.5: {3}; {3} or {3}. The empty set holds where the threshold is negative.
  EXPECT_TRUE(attribute(2.5, {}).scores.squeeze(2).equal(
      at::tensor({0.F, 0.F, 1.F, 0.F, 0.5F, 0.5F, 0.F, 0.F}).view({2, 4})));
  EXPECT_TRUE(attribute(2.5, {.ties = ExactSearchOptions::Ties::all})
                  .scores[1]
                  .flatten()
                  .equal(at::tensor({1.F, 1.F, 0.F, 0.F})));
  EXPECT_EQ(attribute(2.5, {.ties = ExactSearchOptions::Ties::best}).scores.sum().item<float>(), 2);
  EXPECT_EQ(attribute(-1, {}).scores.sum().item<float>(), 0);
  EXPECT_FALSE(attribute(-1, {}).keep.any().item<bool>());
  EXPECT_TRUE(attribute(-1, {.empty = Empty::uniform}).scores.eq(0.25).all().item<bool>());
  const Attribution refused = attribute(-1, {.empty = Empty::refused});
  EXPECT_TRUE(refused.scores.eq(0.25).all().item<bool>()) << "any one position holds";
  EXPECT_EQ(refused.keep.sum().item<int64_t>(), 2);
  // The kept one has the highest target.
  EXPECT_TRUE(refused.keep[0][2].item<bool>());
}

TEST(ExactSearchTest, PrunesOnTheUsersWord) {
  // 8 of at least 15: the 8 alone is not enough, and cannot be missed.
  const Batch batch = numbers({{8, 1, 2, 3, 1, 2, 3, 0}});
  const auto search = [&](bool monotone, const Batch& given, double threshold) {
    const ExactSearch method(sum_net(threshold), one_logit(), {.monotone = monotone});
    return std::pair{method.search(given)[0], method.attribute(given)};
  };
  const auto [full, full_scores] = search(false, batch, 13.5);
  const auto [pruned, pruned_scores] = search(true, batch, 13.5);
  EXPECT_TRUE(full.sets[0].sum(0).equal(pruned.sets[0].sum(0)));
  EXPECT_TRUE(full_scores.scores.equal(pruned_scores.scores));
  EXPECT_EQ(pruned.pruned, std::vector<bool>{true});
  EXPECT_EQ(full.pruned, std::vector<bool>{false});
  EXPECT_LT(pruned_scores.passes, full_scores.passes);
  // Negative numbers are not monotone, and the empty set shows it: nothing is pruned.
  const Batch bad = numbers({{2, -3, 2}});
  const auto [seen, scores] = search(true, bad, -0.5);
  EXPECT_EQ(seen.pruned, std::vector<bool>{false});
  EXPECT_EQ(scores.keep.sum().item<int64_t>(), 0);
}

TEST(ExactSearchTest, ABudgetEndsItAndSaysSo) {
  const Batch batch = numbers({{1, 1, 1, 1, 1, 1}, {9, 0, 0, 0, 0, 0}});
  const auto holds = [&](const Attribution& found) {
    const at::Tensor sums = (batch.inputs[0].squeeze(2) * found.keep.squeeze(2)).sum(1);
    return sums.gt(3.5).all().item<bool>();
  };
  const Attribution found =
      ExactSearch(sum_net(3.5), one_logit(), {.max_passes = 10}).attribute(batch);
  EXPECT_FALSE(found.proven[0][0].item<bool>());
  EXPECT_TRUE(found.proven[1][0].item<bool>()) << "sets of one unit were tried";
  EXPECT_TRUE(holds(found));
  EXPECT_EQ(found.keep[0].sum().item<int64_t>(), 4) << "what greedy elimination finds";
  EXPECT_TRUE(std::isnan(size_gap(found, found)[0][0].item<double>()));
  const Attribution enough = ExactSearch(sum_net(3.5), one_logit()).attribute(batch);
  EXPECT_TRUE(enough.proven.all().item<bool>());
  EXPECT_NEAR(enough.scores[0][0].item<double>(), 4.0 / 6, 1e-6) << "15 ties of 4 of 6";

  AttributionOptions cancelled = one_logit();
  cancelled.passes.max_batch = 2;
  cancelled.passes.progress = [](const Progress&) { return Action::stop; };
  const Attribution stopped = ExactSearch(sum_net(3.5), cancelled).attribute(batch);
  EXPECT_FALSE(stopped.proven.any().item<bool>());
  EXPECT_TRUE(holds(stopped));
  const Attribution late =
      ExactSearch(sum_net(3.5), one_logit(), {.seconds = 1e-9}).attribute(batch);
  EXPECT_FALSE(late.proven.any().item<bool>());
}

TEST(ExactSearchTest, GroupsAreUnits) {
  Batch batch = numbers({{2, 2, 3, 1, 5}});
  batch.groups = at::tensor({0, 0, 1, 1, -1}).view({1, 5}).to(at::kLong);
  batch.mask[0][3].fill_(false);  // always there
  // 5 and 1 stay: more than 8.5 needs the 3 or the two 2s; more than 9.5 the 2s.
  const auto keep = [&](double threshold) {
    return row(ExactSearch(sum_net(threshold), one_logit()).attribute(batch).keep[0].select(1, 0));
  };
  EXPECT_EQ(keep(8.5), (Set{true, true, false, false, true}));
  EXPECT_EQ(ExactSearch(sum_net(8.5), one_logit()).search(batch)[0].sets[0].size(0), 2);
  EXPECT_EQ(keep(11.5), (Set{true, true, true, false, true}));
}

TEST(RandomSearchTest, FindsTheBestSetOfASize) {
  const Batch batch = numbers({{1, 5, 2, 4, 3, 0}, {6, 1, 1, 1, 1, 7}});
  const at::Tensor best =
      at::tensor({0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1}).view({2, 6}).to(at::kBool);
  for (const int64_t searches : {0, 5}) {
    for (const auto objective : {RandomSearchOptions::Objective::sufficiency,
                                 RandomSearchOptions::Objective::comprehensiveness}) {
      const RandomSearch method(
          sum_net(0), make_generator(1), one_logit(),
          {.objective = objective, .share = 1.0 / 3, .max_passes = 300, .searches = searches});
      const Attribution found = method.attribute(batch);
      EXPECT_TRUE(found.keep.squeeze(2).equal(best)) << found.keep.squeeze(2);
      EXPECT_LE(found.passes, 2 + 2 * 300);
    }
  }
  const RandomSearch once(sum_net(0), make_generator(2), one_logit(),
                          {.share = 0.5, .max_passes = 1});
  EXPECT_EQ(once.attribute(batch).keep.sum().item<int64_t>(), 6);
}

TEST(ErasureTest, RefusesBadInput) {
  const auto model = sum_net(0);
  const Batch batch = numbers({{1, 2}});
  const auto spans = net_of([](const at::Tensor& x) { return x; });
  AttributionOptions first = at_input();
  first.target = [](const at::Tensor& y, const at::Tensor&) { return y.flatten(1).select(1, 0); };
  AttributionOptions tight = one_logit();
  tight.passes.memory = 8;
  expect_refused({
      {"no target", [&] { LeaveOneOut(model, at_input()).attribute(batch); },
       "output has to be of shape (B, classes)"},
      {"no criterion", [&] { ExactSearch(spans, first).attribute(batch); },
       "any other needs a criterion of its own"},
      {"null criterion", [&] { ExactSearch(model, one_logit(), {.criterion = nullptr}); },
       "criterion has to be a function"},
      {"memory", [&] { LeaveOneOut(model, tight).attribute(batch); },
       "bytes that a pass of one row takes"},
      {"samples", [&] { LeaveOneOut(model, one_logit(), {.samples = 0}); },
       "samples has to be >= 1"},
      {"beam", [&] { BeamSearch(model, one_logit(), {.beam = 0}); }, "beam has to be >= 1"},
      {"share", [&] { RandomSearch(model, make_generator(1), one_logit(), {.share = 0}); },
       "share has to be in (0, 1]"},
      {"no generator", [&] { RandomSearch(model, at::Generator(), one_logit()); },
       "generator has to be given"},
      {"budget", [&] { ExactSearch(model, one_logit(), {.max_passes = -1}); },
       "max_passes has to be >= 0"},
  });
}

}  // namespace
}  // namespace diffmask
