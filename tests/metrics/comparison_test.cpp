#include "diffmask/metrics/comparison.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/report/comparison_report.hpp"
#include "tests/bad_input.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

class ComparisonTest : public testing::Test {
 protected:
  ComparisonTest() {
    options_.sites = {"low", "high"};
    options_.batch_size = 8;
    options_.seeds = 2;
    options_.faithfulness.steps = 4;
  }

  Comparison run(const std::vector<std::string>& names) {
    AttributionOptions common;
    common.target = target::predicted_logit;
    const MethodSettings settings{.random_passes = 10, .training_steps = 3, .example_steps = 3};
    return compare(task_.model, *task_.validation,
                   compared_methods(names, common, settings, task_.training), options_);
  }

  TrainingTask task_ = training_task();
  ComparisonOptions options_;
};

TEST_F(ComparisonTest, HasARowForEachMethodSiteAndSeed) {
  const Comparison result = run(method_names());
  ASSERT_EQ(result.rows.size(), method_names().size() * 2 * 2);
  for (const ComparisonRow& row : result.rows) {
    SCOPED_TRACE(row.method + " " + row.site);
    EXPECT_EQ(row.failure, "");
    for (const char* name :
         {"kept", "D", "D <= eps", "comprehensiveness", "sufficiency", "log-odds", "deletion AUC",
          "insertion AUC", "infidelity", "sufficiency at 20%", "D <= eps at 50%", "tied at 20%",
          "passes", "seconds per 1,000"}) {
      EXPECT_TRUE(std::isfinite(row.value(name))) << name;
    }
    for (const auto& [name, each] : row.each) {
      double sum = 0, count = 0;
      for (const double value : each) {
        if (!std::isnan(value)) sum += value, count += 1;
      }
      if (count > 0) EXPECT_NEAR(row.value(name), sum / count, 1e-9 * count) << name;
    }
    EXPECT_EQ(row.each.at("sufficiency").size(), task_.validation->size());
    EXPECT_EQ(row.deletion.size(), 5);
    EXPECT_EQ(row.deletion.back(), row.insertion.front()) << "all positions are filled";
  }
  // Uniform scores tie wherever some of several positions are kept, and keep all by themselves.
  const ComparisonRow& uniform = result.rows.front();
  EXPECT_EQ(uniform.method, "uniform");
  EXPECT_EQ(uniform.value("kept"), 1);
  EXPECT_NEAR(uniform.value("D"), 0, 1e-9);
  EXPECT_GT(uniform.value("tied at 20%"), 0.5);
  EXPECT_EQ(uniform.value("passes"), 1);
}

TEST_F(ComparisonTest, ItsSettingsMakeQuickMethods) {
  const Batch batch = task_.validation->batch({0, 1, 2});
  for (const char* name : {"bottleneck", "noise_tolerance"}) {
    const auto passes = [&](const MethodSettings& settings) {
      return method(name)
          .make(task_.model, {.target = target::predicted_logit}, settings, task_.training)
          ->attribute(batch)
          .passes;
    };
    EXPECT_LT(passes(comparison_settings(name)), passes({}) / 2) << name;
  }
}

TEST_F(ComparisonTest, WithoutNamesComparesWhatLearnsNothing) {
  options_.seeds = 1;
  const Comparison result = run({});
  std::vector<std::string> compared;
  for (const ComparisonRow& row : result.rows) {
    if (row.site == "low") compared.push_back(row.method);
  }
  EXPECT_EQ(compared, unlearned_method_names());
}

// A method that learns from what the model reads cannot be made for one that begins at the site.
TEST_F(ComparisonTest, TrainedMethodsHaveNoSensitivity) {
  options_.seeds = 1;
  options_.randomised = training_task(99).model;
  const Comparison result = run({"infomask", "noise_tolerance"});
  EXPECT_TRUE(std::isnan(result.rows[0].value("sensitivity-max")));
  EXPECT_FALSE(std::isnan(result.rows[1].value("sensitivity-max")));
  for (const ComparisonRow& row : result.rows) {
    EXPECT_FALSE(std::isnan(row.value("randomisation correlation"))) << row.method;
  }
}

TEST_F(ComparisonTest, LeaveOneOutBeatsRandomScores) {
  const Comparison result = run({"random", "leave_one_out"});
  const auto entries = result.entries();
  const auto names = result.metrics();
  const auto at = [&](size_t row, const std::string& name) {
    return entries[row]
        .mean[static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin())];
  };
  EXPECT_EQ(entries[0].runs, 2);
  EXPECT_GT(at(1, "comprehensiveness"), at(0, "comprehensiveness"));
  EXPECT_LT(at(1, "deletion AUC"), at(0, "deletion AUC"));
  EXPECT_LT(at(1, "infidelity"), at(0, "infidelity"));
  // Random scores are others with another seed; leave-one-out's are not.
  EXPECT_NEAR(at(1, "rank agreement"), 1, 1e-9);
  EXPECT_LT(at(0, "rank agreement"), 0.6);
}

TEST_F(ComparisonTest, TestsARandomisedModelAndAKnownTruth) {
  options_.randomised = training_task(99).model;
  options_.truth = [](const Batch& batch) { return batch.mask.to(at::kDouble); };
  options_.seeds = 1;
  const Comparison result = run({"uniform", "gradient_x_input"});
  EXPECT_NEAR(result.rows[0].value("D_KL"), 0, 1e-9) << "the truth is uniform";
  EXPECT_GT(result.rows[1].value("D_KL"), 0.01);
  EXPECT_LT(std::abs(result.rows[1].value("randomisation correlation")), 0.95);
  EXPECT_TRUE(std::isnan(result.rows[0].value("randomisation correlation")));
}

TEST_F(ComparisonTest, TakesTheRowsOfAKnownTruth) {
  const int64_t size = task_.validation->size();
  const at::Tensor truth = at::rand({size, 5}, make_generator(3)).gt(0.5);
  const auto rows = truth_rows(truth);
  const Batch batch = task_.validation->batch({4, 1});
  EXPECT_TRUE(
      rows(batch).equal(truth.index_select(0, batch.examples).narrow(1, 0, batch.mask.size(1))));
  expect_refused(
      {{"shape", [&] { truth_rows(truth[0]); }, "truth has to be of shape"},
       {"short rows", [&] { truth_rows(truth.narrow(1, 0, 0))(batch); }, "truth has to be of"}});
}

// It costs as much as the method itself, and so is run on one batch of several.
TEST_F(ComparisonTest, ExplainsOneBatchOfTheRandomisedModel) {
  options_.sites = {"low"};
  options_.seeds = 1;
  options_.randomised = training_task(99).model;
  ASSERT_GT(task_.validation->size(), 2 * options_.batch_size);
  const ComparedMethod gradient = compared_methods({"gradient"}, {}, {}).front();
  int64_t explained = 0;
  const ComparedMethod counted{"gradient",
                               [&](const auto& model, const auto& site, uint64_t seed) -> Explain {
                                 const Explain explain = gradient.make(model, site, seed);
                                 if (model != options_.randomised) return explain;
                                 return [&explained, explain](const Batch& batch) {
                                   explained += batch.size();
                                   return explain(batch);
                                 };
                               }};
  compare(task_.model, *task_.validation, {counted}, options_);
  EXPECT_EQ(explained, options_.batch_size);
}

TEST_F(ComparisonTest, SetsChoicesBesideWhatPeopleMarked) {
  // The first position of even rows; the others are not marked.
  options_.truth = [](const Batch& batch) {
    at::Tensor truth = at::zeros_like(batch.mask);
    truth.select(1, 0).copy_(batch.examples.remainder(2).eq(0));
    return truth;
  };
  options_.seeds = 1;
  double f1 = 0, share = 0, rows = 0;
  for (int64_t i = 0; i < task_.validation->size(); i += 2, ++rows) {
    const auto length = static_cast<double>(task_.validation->length(i));
    f1 += 2 / (length + 1);
    share += 1 / length;
  }
  const ComparisonRow uniform = run({"uniform"}).rows.front();  // it keeps all
  EXPECT_NEAR(uniform.value("token F1"), f1 / rows, 1e-9);
  for (const char* name : {"IOU", "AUPRC"}) {
    EXPECT_NEAR(uniform.value(name), share / rows, 1e-9) << name;
  }
}

TEST_F(ComparisonTest, KeepsFailuresAsRows) {
  options_.seeds = 1;
  AttributionOptions common;
  auto methods = compared_methods({"uniform"}, common, {});
  methods.push_back({"broken", [](const auto&, const auto&, uint64_t) -> Explain {
                       return [](const Batch&) -> Attribution { throw Error("no rule for it"); };
                     }});
  methods.push_back(
      {"elsewhere", [](const auto&, const auto&, uint64_t) -> Explain { return nullptr; }});
  const Comparison result = compare(task_.model, *task_.validation, methods, options_);
  EXPECT_EQ(result.rows[1].failure, "no rule for it");
  EXPECT_EQ(result.rows[2].failure, "does not explain this site");
  const std::string text = markdown_comparison(result);
  EXPECT_NE(text.find("- broken: no rule for it"), std::string::npos) << text;
}

TEST_F(ComparisonTest, MeasuresExplainersAtTheSitesThatTheyMask) {
  options_.seeds = 1;
  auto diffmask =
      std::make_shared<DiffMask>(task_.model, ExplainerOptions{.masking = Masking::input});
  TrainerOptions trainer;
  trainer.steps = trainer.recipe.validate_every = 3;
  trainer.recipe.warm_up = 1;
  diffmask->fit(*task_.training, *task_.validation, trainer);
  const Comparison result =
      compare(task_.model, *task_.validation,
              {compared_explainer("DiffMask input", task_.model, diffmask)}, options_);
  EXPECT_EQ(result.rows[0].failure, "");
  EXPECT_GT(result.rows[0].value("kept"), 0);
  EXPECT_EQ(result.rows[1].failure, "does not explain this site");
}

TEST(DifferTest, TellsMeansApartByTwoStandardErrorsOfThePairs) {
  const auto of = [](std::vector<double> each) {
    double sum = 0, count = 0;
    for (const double value : each) {
      if (!std::isnan(value)) sum += value, count += 1;
    }
    return Comparison::Entry{"", "", "", {sum / count}, {NAN}, {std::move(each)}, 1};
  };
  const auto a = of({0.1, 0.5, 0.9, 0.3});
  EXPECT_FALSE(differ(a, a, 0));
  // d = 0.1, 0.2, 0.1, 0.2: mean 0.15, sd 0.0577, standard error 0.0289.
  EXPECT_TRUE(differ(of({0.2, 0.7, 1.0, 0.5}), a, 0));
  // d = 0.1, -0.2, 0.3, 0.2: mean 0.1, sd 0.216, standard error 0.108.
  EXPECT_FALSE(differ(of({0.2, 0.3, 1.2, 0.5}), a, 0));
  // 0.15 more in each pair; and the same values in another order, which are other pairs.
  EXPECT_TRUE(differ(of({0.25, 0.65, 1.05, 0.45}), a, 0));
  EXPECT_FALSE(differ(of({0.65, 1.05, 0.25, 0.45}), a, 0));
  EXPECT_TRUE(differ(of({0.2, 0.6, 1.0, NAN}), of({0.1, 0.5, 0.9, 0.0}), 0)) << "NaN is no pair";
  EXPECT_TRUE(differ(of({0.1, 0.6, 0.8, INFINITY}), a, 0)) << "an infinite mean";
  EXPECT_TRUE(differ({"", "", "", {0.2}, {NAN}, {{}}, 1}, a, 0)) << "no values of examples";
}

// Runs on the same data are no further examples; another model's are.
TEST(EntryTest, HasAValueOfEachExample) {
  const auto row = [](uint64_t seed, std::vector<double> each) {
    return ComparisonRow{"method", "site", seed, 0, {{"D", 0.0}}, {{"D", each}}, {}, {}, {}};
  };
  Comparison comparison{{row(0, {1, 2}), row(1, {3, 6})}};
  comparison.add({{row(0, {7, 8, 9})}});
  const auto entries = comparison.entries();
  ASSERT_EQ(entries.size(), 1);
  EXPECT_EQ(entries[0].each[0], (std::vector<double>{2, 4, 7, 8, 9}));
}

TEST(ComparisonReportTest, BoldIsTheBestAndWhatIsNotToldFromIt) {
  Comparison comparison;
  const auto add = [&](const std::string& name, std::vector<double> each) {
    const double mean = (each[0] + each[1] + each[2]) / 3;
    comparison.rows.push_back(
        {name, "site", 0, 0, {{"sufficiency", mean}}, {{"sufficiency", each}}, {}, {}, {}});
  };
  add("best", {0.10, 0.20, 0.30});
  add("near", {0.30, 0.10, 0.29});
  add("far", {0.20, 0.31, 0.39});
  add("farther", {0.90, 0.00, 0.30});  // its differences vary, but another is told apart before it
  comparison.rows.push_back(
      {"failed", "site", 0, 0, {{"sufficiency", 0.0}}, {}, {}, {}, "no rule"});
  const std::string markdown = markdown_comparison(comparison);
  EXPECT_NE(markdown.find("| best | **0.2000** |"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("| near | **0.2300** |"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("| far | 0.3000 |"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("| farther | 0.4000 |"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("| failed | - |"), std::string::npos) << markdown;
}

TEST_F(ComparisonTest, IsWrittenInThreeForms) {
  const Comparison result = run({"uniform", "leave_one_out"});
  const std::string markdown = markdown_comparison(result);
  EXPECT_NE(markdown.find("## high"), std::string::npos);
  EXPECT_NE(markdown.find("sufficiency at 20% \u2193"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("comprehensiveness \u2191"), std::string::npos);
  EXPECT_NE(markdown.find("| **"), std::string::npos);
  const auto json = nlohmann::json::parse(json_comparison(result));
  EXPECT_EQ(json["rows"].size(), result.rows.size());
  EXPECT_EQ(json["rows"][0]["values"]["kept"], 1.0);
  for (const auto& metric : json["metrics"]) {
    if (metric["name"] == "log-odds") EXPECT_EQ(metric["better"], "lower");
    if (metric["name"] == "insertion AUC") EXPECT_EQ(metric["better"], "higher");
    if (metric["name"] == "kept") EXPECT_TRUE(metric["better"].is_null());
  }
  const std::string html = html_comparison("A <title>", "What & why", result);
  EXPECT_NE(html.find("<h1>A &lt;title&gt;</h1>"), std::string::npos);
  EXPECT_NE(html.find("<td class=\"best\">"), std::string::npos);
  EXPECT_NE(html.find("<svg"), std::string::npos);
}

TEST_F(ComparisonTest, RefusesBadInput) {
  const auto with = [&](const std::function<void(ComparisonOptions&)>& change) {
    const ComparisonOptions before = options_;
    change(options_);
    const auto restore = [&] { options_ = before; };
    try {
      run({"uniform"});
    } catch (...) {
      restore();
      throw;
    }
    restore();
  };
  expect_refused({
      {"sites", [&] { with([](auto& o) { o.sites = {}; }); }, "sites has to be at least one"},
      {"site", [&] { with([](auto& o) { o.sites = {"hihg"}; }); }, "nearest: high"},
      {"epsilon", [&] { with([](auto& o) { o.epsilon = 0; }); }, "epsilon has to be > 0"},
      {"rates", [&] { with([](auto& o) { o.keep_rates = {2}; }); },
       "keep_rates has to be in (0, 1]"},
      {"no rates", [&] { with([](auto& o) { o.keep_rates = {}; }); },
       "keep_rates has to be at least"},
      {"seeds", [&] { with([](auto& o) { o.seeds = 0; }); }, "seeds has to be >= 1"},
      {"batch", [&] { with([](auto& o) { o.batch_size = 0; }); }, "batch_size has to be >= 1"},
      {"subsets", [&] { with([](auto& o) { o.subsets = 0; }); }, "subsets has to be >= 1"},
      {"method", [&] { run({"gradeint"}); }, "nearest: gradient"},
      {"no training data", [] { compared_methods({"infomask"}, {}, {}); },
       "training has to be a data set, for method 'infomask'"},
      {"explainer", [&] { compared_explainer("x", task_.model, nullptr); }, "method has to be"},
  });
}

}  // namespace
}  // namespace diffmask
