// Every method on every task with a known answer (zoo/tasks/tasks.hpp), with models and fits that
// are trained here, once, in CI's small budget. examples/tasks.cpp prints the same table at full
// length.

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <tuple>

#include "diffmask/zoo/tasks/task_run.hpp"

namespace diffmask {
namespace {

const TaskRun& run_of(const std::string& name) {
  static std::map<std::string, TaskRun> runs;
  auto found = runs.find(name);
  if (found == runs.end()) {
    const int64_t size = name == "ba_shapes" ? 30 : 100;  // of edges there are many more
    found = runs.emplace(name, make_task_run(task(name), {.examples = size})).first;
  }
  return found->second;
}

constexpr int64_t kFewSteps = 4;  // enough to be scored, not to be right

// Site by site.
const std::vector<SiteAnswer>& scores_of(const std::string& name, const std::string& method,
                                         int64_t steps = kFewSteps) {
  static std::map<std::tuple<std::string, std::string, int64_t>, std::vector<SiteAnswer>> known;
  const auto [found, is_new] = known.try_emplace({name, method, steps});
  if (!is_new) return found->second;
  TaskRun run = run_of(name);
  run.steps = steps;
  found->second = run.score(run.explain(diffmask::method(method)));
  return found->second;
}

// On BA-Shapes random edges make some nodes look like others.
TEST(KnownAnswerTasksTest, ModelsLearnThem) {
  for (const Task& each : tasks()) {
    const double least = each.name == "ba_shapes" ? 0.93 : 0.99;
    EXPECT_GE(run_of(each.name).task.accuracy, least) << each.name;
  }
}

TEST(KnownAnswerTasksTest, EveryMethodGetsAScoreOnEveryTask) {
  for (const Task& each : tasks()) {
    for (const Method& method : methods()) {
      if (!run_of(each.name).suits(method.name)) continue;
      SCOPED_TRACE(each.name + ", " + method.name);
      const auto& scores = scores_of(each.name, method.name);
      EXPECT_FALSE(scores.empty());
      for (const SiteAnswer& s : scores) {
        EXPECT_EQ(s.answer.rows, run_of(each.name).explained.data->size());
        EXPECT_TRUE(std::isfinite(s.answer.js));
        EXPECT_TRUE(std::isfinite(s.precision));
      }
    }
  }
}

TEST(KnownAnswerTasksTest, ControlsAreWhatChanceGives) {
  for (const Task& each : tasks()) {
    SCOPED_TRACE(each.name);
    const TaskRun& run = run_of(each.name);
    const at::Tensor mask = run.batch().mask;
    const at::Tensor right = run.explained.truth.logical_and(mask).sum(1).to(at::kDouble);
    const at::Tensor chance = right / mask.sum(1);
    const SiteAnswer& uniform = scores_of(each.name, "uniform").at(0);
    EXPECT_NEAR(uniform.precision, chance.mean().item<double>(), 1e-12);
    EXPECT_NEAR(uniform.answer.kl, -chance.log().mean().item<double>(), 1e-12);
    // A row's precision has the variance of a hypergeometric share, at most p (1 - p) / k.
    const at::Tensor variance = chance * (1 - chance) / right;
    const double deviation =
        std::sqrt(variance.sum().item<double>()) / static_cast<double>(right.size(0));
    EXPECT_NEAR(scores_of(each.name, "random").at(0).precision, uniform.precision, 5 * deviation);
  }
}

/// What a method has to reach at a site.
struct Bound {
  std::string task, method;
  double js;         ///< at most this
  double precision;  ///< at least this
  std::string site = "word_embeddings";
  int64_t steps = kFewSteps;
};

void expect_reached(const std::vector<Bound>& bounds) {
  for (const Bound& bound : bounds) {
    SCOPED_TRACE(bound.task + ", " + bound.method + ", " + bound.site);
    const auto& scores = scores_of(bound.task, bound.method, bound.steps);
    const auto at_site = std::find_if(scores.begin(), scores.end(),
                                      [&](const SiteAnswer& s) { return s.site == bound.site; });
    ASSERT_NE(at_site, scores.end());
    EXPECT_LT(bound.js, scores_of(bound.task, "uniform").at(0).answer.js) << "says nothing";
    EXPECT_LE(at_site->answer.js, bound.js);
    EXPECT_GE(at_site->precision, bound.precision);
  }
}

// Under DiffMask's constraint a search's smallest set is the truth, where that is one. Some models
// of two hops guess right from less on a few rows (a D_JS of 0.014 with one processor's kernels,
// 0.060 with another's; by chance 0.29), and there a beam stops at more.
TEST(KnownAnswerTasksTest, SearchesFindThePointers) {
  expect_reached({{"lookup", "exact_search", 0.02, 0.98},
                  {"lookup", "beam_search", 0.02, 0.98},
                  {"two_hop", "exact_search", 0.1, 0.9},
                  {"two_hop", "beam_search", 0.1, 0.75},
                  {"palindrome", "exact_search", 0.25, 0.75}});
}

// Of five tokens that count three are enough: the smallest set leaves some of the truth out.
TEST(KnownAnswerTasksTest, SearchesAreNotTheTruthWhereASmallerSetIsEnough) {
  for (const char* name : {"majority", "counting"}) {
    EXPECT_EQ(scores_of(name, "exact_search").at(0).answer.kl, INFINITY) << name;
  }
}

TEST(KnownAnswerTasksTest, LeaveOneOutFindsWhatMatters) {
  expect_reached({{"lookup", "leave_one_out", 0.03, 0.98},
                  {"two_hop", "leave_one_out", 0.04, 0.98},
                  {"palindrome", "leave_one_out", 0.15, 0.95},
                  {"majority", "leave_one_out", 0.28, 0.7},
                  {"counting", "leave_one_out", 0.1, 0.93, "embedding"}});
}

TEST(KnownAnswerTasksTest, GradientMethodsFindWhatMatters) {
  expect_reached({{"lookup", "gradient", 0.15, 0.95},
                  {"majority", "integrated_gradients", 0.2, 0.9},
                  {"lookup", "integrated_gradients", 0.1, 0.95},
                  {"two_hop", "integrated_gradients", 0.12, 0.95},
                  {"palindrome", "integrated_gradients", 0.25, 0.85},
                  {"counting", "integrated_gradients", 0.1, 0.93, "embedding"},
                  {"majority", "deeplift", 0.2, 0.95},
                  {"lookup", "deeplift", 0.12, 0.95},
                  {"two_hop", "deeplift", 0.15, 0.9},
                  {"palindrome", "deeplift", 0.25, 0.9},
                  {"counting", "deeplift", 0.1, 0.93, "embedding"},
                  {"majority", "lrp", 0.2, 0.75},
                  {"lookup", "lrp", 0.2, 0.7}});
}

// By chance the precision is about 0.4. DeepLIFT's D_JS is under 0.2 with most processors' kernels
// and 0.206 with those of an AMD EPYC, to the same digits before and after 0.2.0's changes.
TEST(KnownAnswerTasksTest, GradientsFindTheHousesEdges) {
  expect_reached({{"ba_shapes", "gradient", 0.2, 0.7, "edge"},
                  {"ba_shapes", "leave_one_out", 0.2, 0.7, "edge"},
                  {"ba_shapes", "deeplift", 0.22, 0.7, "edge"},
                  {"ba_shapes", "lrp", 0.2, 0.7, "edge"},
                  {"ba_shapes", "gnn_explainer", 0.28, 0.5, "edge"}});
}

// Where a position's own state tells whether it matters: a vote, a digit beside its query.
TEST(KnownAnswerTasksTest, DiffMaskFindsWhatItsProbesCanSee) {
  expect_reached({{"majority", "diffmask_hidden", 0.1, 0.95, "word_embeddings", 150},
                  {"counting", "diffmask_hidden", 0.15, 0.95, "encoder", 250}});
}

// A probe sees one position's state; which token is pointed at takes free logits.
TEST(KnownAnswerTasksTest, PerSampleDiffMaskFindsThePointers) {
  expect_reached({{"lookup", "diffmask_per_sample", 0.25, 0.8, "word_embeddings", 150},
                  {"two_hop", "diffmask_per_sample", 0.25, 0.8, "word_embeddings", 150}});
}

}  // namespace
}  // namespace diffmask
