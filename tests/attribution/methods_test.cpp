#include "diffmask/attribution/methods.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "tests/bad_input.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

class MethodsTest : public testing::Test {
 protected:
  TrainingTask task_ = training_task();
  AttributionOptions options_{.sites = {"low", "high"}};
  MethodSettings few_{
      .random_passes = 10, .epsilon = 0.05, .training_steps = 3, .example_steps = 3};
  Batch batch_ = task_.validation->batch(iota(8));
};

TEST_F(MethodsTest, EachIsMadeByItsNameAndExplains) {
  const std::vector<std::string> names = method_names();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const auto made = method(name).make(task_.model, options_, few_, task_.training);
    const Attribution attribution = made->attribute(batch_);
    EXPECT_EQ(attribution.sites, options_.sites);
    EXPECT_EQ(attribution.scores.sizes(), (std::vector<int64_t>{8, batch_.mask.size(1), 2}));
    EXPECT_TRUE(attribution.scores.isfinite().all().item<bool>());
    EXPECT_EQ(attribution.keep.sizes(), attribution.scores.sizes());
    EXPECT_GT(attribution.passes, 0);
    const at::Tensor outside = attribution.scores.masked_select(~batch_.mask.unsqueeze(2));
    EXPECT_TRUE(outside.eq(0).all().item<bool>());
  }
}

TEST_F(MethodsTest, WhatIsDrawnDependsOnTheSeedAlone) {
  for (const std::string& name : method_names()) {
    SCOPED_TRACE(name);
    const auto scores = [&] {
      MethodSettings settings = few_;
      settings.seed = 5;
      const auto made = method(name).make(task_.model, options_, settings, task_.training);
      return made->attribute(batch_).scores;
    };
    EXPECT_TRUE(scores().equal(scores()));
  }
}

TEST_F(MethodsTest, OnlyThoseThatNeedTrainingDataAskForThem) {
  for (const Method& each : methods()) {
    SCOPED_TRACE(each.name);
    if (!each.needs_training) {
      EXPECT_NO_THROW(each.make(task_.model, options_, few_)->attribute(batch_));
      continue;
    }
    try {
      each.make(task_.model, options_, few_);
      ADD_FAILURE() << "made without training data";
    } catch (const ArgumentError& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find("training has to be a data set, for method '" + each.name + "'"),
                std::string::npos)
          << message;
    }
  }
  for (const std::string& name : unlearned_method_names()) {
    EXPECT_FALSE(method(name).needs_training || method(name).fits_examples) << name;
  }
}

TEST_F(MethodsTest, ControlsComeFirst) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(with_controls({}), (Names{"uniform", "random"}));
  EXPECT_EQ(with_controls({"lrp", "random", "deeplift", "lrp"}),
            (Names{"uniform", "random", "lrp", "deeplift"}));
}

// Whether they learn more where they may: with 0 for the defaults' many steps.
TEST_F(MethodsTest, SettingsReachTheMethods) {
  const auto passes = [&](const std::string& name, const MethodSettings& settings) {
    return method(name).make(task_.model, options_, settings)->attribute(batch_).passes;
  };
  MethodSettings more = few_;
  more.example_steps = 6;
  more.random_passes = 20;
  for (const char* name : {"noise_tolerance", "gnn_explainer", "diffmask_per_sample",
                           "reinforce_per_sample", "random_search"}) {
    EXPECT_LT(passes(name, few_), passes(name, more)) << name;
  }
  const auto noise = [&](double rate) {
    MethodSettings settings = few_;
    settings.noise_rate = rate;
    return method("noise_tolerance")
        .make(task_.model, options_, settings)
        ->attribute(batch_)
        .scores;
  };
  EXPECT_TRUE(noise(0.1).equal(noise(MethodSettings{}.noise_rate)));
  EXPECT_FALSE(noise(0.1).equal(noise(0.3)));
  const auto kept = [&](const std::string& name, double epsilon) {
    MethodSettings settings{.epsilon = epsilon, .example_steps = 60};
    return method(name)
        .make(task_.model, options_, settings)
        ->attribute(batch_)
        .scores.sum()
        .item<double>();
  };
  EXPECT_GT(kept("diffmask_per_sample", 0.001), kept("diffmask_per_sample", 2.0));
}

// DiffMask at a site is an explainer with that site, unless the caller has one of its own.
TEST_F(MethodsTest, AnExplainerOfTheCallersIsUsedAsItIs) {
  options_.sites = {"high"};
  const auto sites = [&] {
    return method("diffmask_input")
        .make(task_.model, options_, few_, task_.training)
        ->attribute(batch_)
        .sites;
  };
  EXPECT_EQ(sites(), (std::vector<std::string>{"high"}));
  few_.explainer = ExplainerOptions{.sites = {"low", "high"}};
  EXPECT_EQ(sites(), (std::vector<std::string>{"low", "high"}));
}

// The further from the first position, the more a position matters.
class Later : public Attributor {
 public:
  explicit Later(const MethodRequest& request) : sites_(request.options.sites) {}

  Attribution attribute(const Batch& batch) const override {
    const at::Tensor mask = batch.mask.to(at::kFloat).unsqueeze(2);
    const at::Tensor place = at::arange(mask.size(1), at::kFloat).view({-1, 1});
    const at::Tensor scores = (place * mask).repeat({1, 1, static_cast<int64_t>(sites_.size())});
    Attribution result{sites_, scores, scores.gt(0), batch.mask};
    result.passes = batch.size();
    return result;
  }

 private:
  std::vector<std::string> sites_;
};

TEST_F(MethodsTest, AUsersMethodJoins) {
  const auto names = method_names();
  add_method({.name = "later", .build = [](const MethodRequest& request) {
                return std::make_unique<Later>(request);
              }});
  EXPECT_EQ(method_names().size(), names.size() + 1);
  EXPECT_EQ(method_names().back(), "later");
  const Comparison comparison =
      compare(task_.model, *task_.validation, compared_methods({"uniform", "later"}, {}, {}),
              {.sites = {"low"}});
  ASSERT_EQ(comparison.rows.size(), 2);
  EXPECT_EQ(comparison.rows[1].method, "later");
  EXPECT_EQ(comparison.rows[1].failure, "");
  EXPECT_LT(comparison.rows[1].value("kept"), comparison.rows[0].value("kept"));
  const auto build = method("later").build;
  expect_refused({
      {"again", [&] { add_method({.name = "later", .build = build}); },
       "method.name has to be one that no other method has, but got 'later'"},
      {"the library's", [&] { add_method({.name = "lrp", .build = build}); }, "'lrp'"},
      {"no name", [&] { add_method({.name = "", .build = build}); }, "method.name has to be"},
      {"no function", [] { add_method({.name = "nothing"}); }, "method.build has to be"},
  });
  EXPECT_EQ(method_names().size(), names.size() + 1);
}

TEST_F(MethodsTest, ThreadsMayAddAndReadAtOnce) {
  const size_t before = methods().size();
  constexpr int kThreads = 4, kEach = 20;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < kEach; ++i) {
        add_method(
            {.name = fmt::format("thread_{}_{}", t, i), .build = [](const MethodRequest& request) {
               return std::make_unique<Later>(request);
             }});
        method(fmt::format("thread_{}_{}", t, i));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(methods().size(), before + kThreads * kEach);
}

TEST_F(MethodsTest, RefusesBadInput) {
  expect_refused({
      {"name", [] { method("gradeint"); }, "nearest: gradient"},
      {"no model", [] { method("uniform").make(nullptr); }, "model has to be a model"},
      {"site", [&] { method("uniform").make(task_.model, {.sites = {"hihg"}}); }, "nearest: high"},
      {"epsilon",
       [&] { method("diffmask_per_sample").make(task_.model, options_, {.epsilon = 0}); },
       "epsilon has to be > 0"},
      {"steps",
       [&] {
         method("infomask").make(task_.model, options_, {.training_steps = -1}, task_.training);
       },
       "training_steps has to be >= 0"},
  });
}

}  // namespace
}  // namespace diffmask
