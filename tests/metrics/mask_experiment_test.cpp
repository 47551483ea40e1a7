#include "diffmask/metrics/mask_experiment.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "diffmask/attribution/passes.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/mask/masking.hpp"
#include "diffmask/metrics/classification.hpp"
#include "diffmask/report/trade_off.hpp"
#include "diffmask/train/recorded_batches.hpp"
#include "tests/bad_input.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

// Keeps the positions whose first feature is above 0, at any depth: logits of 9 or -9.
class SignProbe : public Probe {
 public:
  SignProbe() : bias_(register_parameter("bias", at::zeros({1}))) {}
  at::Tensor logits(const ProbeStates& states, const Dropout& = {}) override {
    return 18 * states.features.select(2, 0).gt(0).to(at::kFloat) - 9 + bias_;
  }

 private:
  at::Tensor bias_;
};

// A method whose masks are known: SignProbe's, with baselines of zero.
DiffMask sign_method(const TrainingTask& task, Masking masking = Masking::hidden) {
  DiffMask method(
      task.model,
      {.masking = masking,
       .probe = {.make = [](const ProbeInput&,
                            const at::Generator&) { return std::make_shared<SignProbe>(); }},
       .gate = std::make_shared<Bernoulli>(),
       .baseline = {.start = BaselineOptions::Start::zero, .learned = false}});
  method.fit(*task.training, *task.validation,
             {.epsilon = 0.1, .steps = 1, .recipe = {.warm_up = 0}});
  return method;
}

class MaskExperimentTest : public testing::Test {
 protected:
  // The output and the mask of all examples at once, at a hidden depth, as the equation has it.
  std::pair<at::Tensor, at::Tensor> by_hand(const std::string& site) const {
    const Batch batch = all();
    const Recording recording = task_.model->record(batch.inputs);
    const at::Tensor h = recording.state(site);
    const at::Tensor keep = h.select(2, 0).gt(0).logical_or(batch.mask.logical_not());
    return {task_.model->resume(recording, site, h * keep.unsqueeze(2)), keep};
  }

  Batch all() const { return task_.validation->batch(iota(task_.validation->size())); }

  TrainingTask task_ = training_task();
  Gating hidden_{"hidden", sign_method(task_), 0.05};
};

TEST_F(MaskExperimentTest, ScoresTheMasksOfEachDepth) {
  const MaskExperiment found = score_masks(*task_.model, *task_.validation, {hidden_},
                                           {.scorer = scorer::classes(2), .batch_size = 7});
  const Batch batch = all();
  const at::Tensor y = task_.model->record(batch.inputs).output();
  const auto& depths = found.gating("hidden").depths;
  ASSERT_EQ(depths.size(), 2u);
  for (const DepthScore& depth : depths) {
    const auto [masked, keep] = by_hand(depth.site);
    const at::Tensor predicted = masked.argmax(1), divergence = divergence::categorical(y, masked);
    EXPECT_NEAR(found.figure(depth.chosen, "accuracy"), accuracy(predicted, batch.labels), 1e-12);
    EXPECT_NEAR(found.figure(depth.chosen, "macro_f1"), macro_f1(predicted, batch.labels, 2),
                1e-12);
    const at::Tensor dropped = keep.logical_not().sum(1).to(at::kDouble) / batch.mask.sum(1);
    EXPECT_NEAR(depth.chosen.masked_share, dropped.mean().item<double>(), 1e-6);
    EXPECT_NEAR(depth.chosen.divergence, divergence.mean().item<double>(), 1e-6);
    EXPECT_NEAR(depth.chosen.within_epsilon,
                divergence.le(0.05).to(at::kDouble).mean().item<double>(), 1e-12);
  }
  EXPECT_NEAR(found.figure(found.original, "accuracy"), accuracy(y.argmax(1), batch.labels), 1e-12);
  EXPECT_EQ(found.original.masked_share, 0);
  EXPECT_NEAR(found.original.divergence, 0, 1e-7);
  EXPECT_EQ(found.original.within_epsilon, 1);
}

TEST_F(MaskExperimentTest, TakesAnyDivergenceAndAnyScorer) {
  const auto first = [](const MaskedOutput& of) {
    return at::stack({of.output.select(1, 0), at::full({of.output.size(0)}, NAN)}, 1);
  };
  const auto logit = scorer::means({{"logit"}, {"nothing"}}, first);
  const MaskExperiment found =
      score_masks(*task_.model, *task_.validation, {hidden_},
                  {.scorer = logit, .divergence = divergence::squared_error, .controls = {}});
  const at::Tensor y = task_.model->record(all().inputs).output();
  const DepthScore& low = found.gatings[0].depths[0];
  const at::Tensor masked = by_hand("low").first;
  EXPECT_NEAR(found.figure(low.chosen, "logit"), masked.select(1, 0).mean().item<double>(), 1e-5);
  EXPECT_TRUE(std::isnan(found.figure(low.chosen, "nothing"))) << "no example has it";
  EXPECT_NEAR(low.chosen.divergence, divergence::squared_error(y, masked).mean().item<double>(),
              1e-5);
  EXPECT_TRUE(low.controls.empty());
}

TEST_F(MaskExperimentTest, AgreementNeedsNoLabels) {
  const Batch batch = all();
  const PaddedDataset bare({{batch.inputs[0], /*is_sequence=*/true}}, batch.mask.sum(1));
  const auto found = score_masks(*task_.model, bare, {hidden_}, {.controls = {}});
  const at::Tensor y = task_.model->record(batch.inputs).output();
  EXPECT_EQ(found.figure(found.original, "agreement"), 1);
  EXPECT_NEAR(found.figure(found.gatings[0].depths[1].chosen, "agreement"),
              accuracy(by_hand("high").first.argmax(1), y.argmax(1)), 1e-12);
  expect_refused(
      {{"classes",
        [&] { score_masks(*task_.model, bare, {hidden_}, {.scorer = scorer::classes(2)}); },
        "data has to be a data set with labels"}});
}

TEST_F(MaskExperimentTest, RandomMasksAreAsLargeAndTheirScoresMeansOverDraws) {
  const auto scores = [&](int64_t draws, uint64_t seed) {
    return score_masks(*task_.model, *task_.validation, {hidden_},
                       {.controls = {control::random(draws), control::uniform()}, .seed = seed});
  };
  const MaskExperiment found = scores(3, 0);
  const DepthScore& depth = found.gatings[0].depths[1];
  EXPECT_NEAR(depth.controls[0].masked_share, depth.chosen.masked_share, 1e-6);
  EXPECT_NEAR(depth.controls[1].masked_share, depth.chosen.masked_share, 1e-6);
  const auto divergence = [&](const MaskExperiment& of) {
    return of.gatings[0].depths[1].controls[0].divergence;
  };
  EXPECT_EQ(divergence(found), divergence(scores(3, 0))) << "same seed, same bits";
  EXPECT_NE(divergence(found), divergence(scores(3, 1)));
  // The data are one batch: three draws of one generator.
  const at::Generator generator = make_generator(derive_seed(0, 201));
  const RecordedBatch item =
      recorded(*task_.model, *task_.validation, by_length(*task_.validation), {"low", "high"});
  const Explainer& explainer = hidden_.method.explainer();
  const at::Tensor z = explainer.gates(item.recording, item.batch, {1}, Draw::hard).front().z;
  double mean = 0;
  for (int draw = 0; draw < 3; ++draw) {
    const at::Tensor y = explainer.masked_output(*task_.model, item.recording, 1,
                                                 shuffled_mask(z, item.batch.mask, generator));
    mean += divergence::classes(item.recording.output(), y).mean().item<double>() / 3;
  }
  EXPECT_NEAR(divergence(found), mean, 1e-6);
}

TEST_F(MaskExperimentTest, UniformMasksScaleAllPositionsAlike) {
  const at::Tensor z = at::tensor({1.0, 0.0, 0.0, 1.0, 0.0, 1.0}).view({2, 3});
  Batch batch;
  batch.mask = at::tensor({1, 1, 1, 1, 1, 0}).view({2, 3}).to(at::kBool);
  const at::Tensor uniform = control::uniform().mask(z, batch, {});
  const at::Tensor third = at::full({3}, 1.0 / 3, z.options());
  EXPECT_TRUE(uniform[0].allclose(third)) << uniform;
  EXPECT_TRUE(uniform[1].equal(at::tensor({0.5, 0.5, 1.0}))) << uniform;
}

TEST_F(MaskExperimentTest, SummariesAreTheLastDepthOfInputsAndTheMeanOfHiddenStates) {
  const Gating input{"input", sign_method(task_, Masking::input), 0.05};
  const MaskExperiment found = score_masks(*task_.model, *task_.validation, {input, hidden_});
  const GatingScore& of_input = found.gating("input");
  EXPECT_EQ(of_input.summary().chosen.divergence, of_input.depths[1].chosen.divergence);
  EXPECT_EQ(of_input.summary().controls[0].divergence, of_input.depths[1].controls[0].divergence);
  const GatingScore& of_hidden = found.gating("hidden");
  const DepthScore mean = of_hidden.summary();
  const auto& depths = of_hidden.depths;
  EXPECT_NEAR(mean.chosen.masked_share,
              (depths[0].chosen.masked_share + depths[1].chosen.masked_share) / 2, 1e-12);
  EXPECT_NEAR(mean.chosen.figures[0],
              (depths[0].chosen.figures[0] + depths[1].chosen.figures[0]) / 2, 1e-12);
  EXPECT_NEAR(mean.controls[0].divergence,
              (depths[0].controls[0].divergence + depths[1].controls[0].divergence) / 2, 1e-12);
}

// One gating of two depths, with numbers that are easy to tell apart.
MaskExperiment example() {
  const auto score = [](double base) {
    return MaskScore{{base, 10 * base}, 0.5 * base, base / 4, 1 - base};
  };
  GatingScore gating{"hidden", Masking::hidden, 0.1, {}};
  gating.depths = {{"low", score(0.5), {score(0.25)}}, {"high", score(0.75), {score(0.5)}}};
  return {{{"accuracy", true}, {"loss"}}, {"random"}, score(1.0), {gating}};
}

TEST(MaskExperimentReportTest, PrintsATable) {
  EXPECT_EQ(example().full_report("test"),
            "  test                    accuracy    loss  masked       D  D<=eps\n"
            "  original                  100.0%  10.000   50.0%  0.2500    0.0%\n"
            "  hidden, low                50.0%   5.000   25.0%  0.1250   50.0%\n"
            "    random                   25.0%   2.500   12.5%  0.0625   75.0%\n"
            "  hidden, high               75.0%   7.500   37.5%  0.1875   25.0%\n"
            "    random                   50.0%   5.000   25.0%  0.1250   50.0%\n"
            "\n"
            "  hidden, mean of depths     62.5%   6.250   31.2%  0.1562   37.5%\n"
            "    random                   37.5%   3.750   18.8%  0.0938   62.5%\n");
  EXPECT_EQ(example().brief_report(),
            "hidden: 31.2% masked; accuracy 62.5% (random 37.5%, original 100.0%), "
            "loss 6.250 (random 3.750, original 10.000)\n");
}

TEST(MaskExperimentReportTest, WritesJson) {
  MaskExperiment experiment = example();
  experiment.original.figures[1] = NAN;
  const json report = json::parse(experiment.json());
  EXPECT_EQ(report["original"]["accuracy"], 1.0);
  EXPECT_TRUE(report["original"]["loss"].is_null());
  EXPECT_EQ(report["hidden"]["epsilon"], 0.1);
  EXPECT_EQ(report["hidden"]["depths"].size(), 2u);
  EXPECT_EQ(report["hidden"]["depths"][1]["depth"], "high");
  EXPECT_EQ(report["hidden"]["depths"][1]["masked_share"], 0.375);
  EXPECT_EQ(report["random_hidden"]["depths"][0]["within_epsilon"], 0.75);
  EXPECT_EQ(report["random_hidden"]["summary"]["accuracy"], 0.375);
}

TEST(MaskExperimentReportTest, DrawsTheTradeOff) {
  MaskExperiment other = example();
  other.gatings[0].depths[0].chosen.masked_share = 0.75;
  const Chart chart = trade_off_chart({example(), other}, "loss");
  ASSERT_EQ(chart.curves.size(), 3u);
  EXPECT_EQ(chart.curves[0].name, "original");
  EXPECT_EQ(chart.curves[1].name, "hidden");
  const std::vector<std::pair<double, double>> points = {{0.3125, 6.25}, {0.5625, 6.25}};
  EXPECT_EQ(chart.curves[1].points, points);
  EXPECT_EQ(chart.curves[2].name, "hidden, random");
  EXPECT_TRUE(chart.curves[2].dashed);
  expect_refused({{"figure", [] { trade_off_chart({example()}, "los"); }, "'los' (nearest: loss"},
                  {"none", [] { trade_off_chart({}, "loss"); }, "experiments has to be"}});
}

TEST_F(MaskExperimentTest, GatingsExplainSideBySide) {
  const Gating input{"input", sign_method(task_, Masking::input), 0.1};
  const Batch batch = all();
  const Attribution both = attribute({input, hidden_}, batch);
  const std::vector<std::string> names = {"input, low", "input, high", "hidden, low",
                                          "hidden, high"};
  EXPECT_EQ(both.sites, names);
  EXPECT_TRUE(both.scores.narrow(2, 2, 2).equal(hidden_.method.attribute(batch).scores));
  EXPECT_TRUE(both.scores.narrow(2, 0, 2).equal(input.method.attribute(batch).scores));
  expect_refused({{"none", [&] { attribute(std::vector<Gating>(), batch); },
                   "gatings has to be at least one"}});
}

TEST_F(MaskExperimentTest, StopsWhereItIsTold) {
  int64_t batches = 0;
  const auto stop = [&](const Progress& progress) {
    EXPECT_EQ(progress.steps, 4);
    return ++batches == 2 ? Action::stop : Action::proceed;
  };
  EXPECT_THROW(
      score_masks(*task_.model, *task_.validation, {hidden_}, {.batch_size = 5, .progress = stop}),
      Cancelled);
  EXPECT_EQ(batches, 2);
}

TEST_F(MaskExperimentTest, RefusesBadInput) {
  const auto score = [&](std::vector<Gating> gatings, MaskExperimentOptions options = {}) {
    return [=, this] { score_masks(*task_.model, *task_.validation, gatings, options); };
  };
  const Gating hidden = hidden_;
  const auto identity = [](const at::Tensor& z, const Batch&, const at::Generator&) { return z; };
  const auto narrow = [](const at::Tensor& z, const Batch&, const at::Generator&) {
    return z.narrow(1, 0, 1);
  };
  const auto rows = [](const MaskedOutput&) { return at::zeros({1}); };
  const auto two = [](const MaskedOutput& of) { return at::zeros({of.output.size(0), 2}); };
  expect_refused({
      {"no gating", score({}), "gatings has to be at least one"},
      {"one name", score({hidden, hidden}), "gatings has to be each of a name of its own"},
      {"reserved", score({{"original", hidden.method, 0.1}}), "gatings has to be each"},
      {"epsilon", score({{"a", hidden.method, 0.0}}), "epsilon of 'a' has to be > 0, but got 0"},
      {"draws", score({hidden}, {.controls = {control::random(0)}}), "controls.draws has to be"},
      {"controls", score({hidden}, {.controls = {control::random(), control::random()}}),
       "controls has to be each of a name of its own, but got 'random'"},
      {"no mask", score({hidden}, {.controls = {{"mine", nullptr}}}), "controls.mask has to be"},
      {"no control's name", score({hidden}, {.controls = {{"", identity}}}), "controls has to be"},
      {"mask's shape", score({hidden}, {.controls = {{"mine", narrow}}}),
       "mask of the control 'mine' has to be of shape"},
      {"divergence", score({hidden}, {.divergence = nullptr}), "divergence has to be a function"},
      {"batch size", score({hidden}, {.batch_size = 0}), "batch_size has to be >= 1, but got 0"},
      {"no figure", score({hidden}, {.scorer = {}}), "scorer.figures has to be at least one"},
      {"rows", score({hidden}, {.scorer = scorer::means({{"a"}}, rows)}), "scorer.read has to be"},
      {"columns", score({hidden}, {.scorer = scorer::means({{"a"}}, two)}),
       "scorer.read has to be a function that gives 1 numbers per example"},
      {"classes", [] { scorer::classes(1); }, "classes has to be >= 2, but got 1"},
      {"criterion", [] { scorer::agreement(nullptr); }, "criterion has to be a function"},
  });
  const MaskExperiment found = score_masks(*task_.model, *task_.validation, {hidden_});
  expect_refused({{"gating", [&] { found.gating("hiden"); }, "'hiden' (nearest: hidden"},
                  {"figure", [&] { found.figure(found.original, "f1"); }, "figure has to be"}});
  EXPECT_THROW(score_masks(*task_.model, *task_.validation, {{"a", DiffMask(task_.model), 0.1}}),
               Error);
}

TEST_F(MaskExperimentTest, RefinesAnExplainerFromEpsilonToEpsilon) {
  DiffMask method(task_.model);
  method.fit(*task_.training, *task_.validation,
             {.epsilon = 0.01, .steps = 4, .recipe = {.warm_up = 2}});
  const at::Tensor before = method.attribute(all()).scores;
  std::vector<int64_t> made;  // steps for each epsilon
  const auto trainer_of = [&](double epsilon) {
    made.push_back(0);
    return TrainerOptions{.epsilon = epsilon,
                          .steps = 6,
                          .callbacks = {[&](const Progress& progress) {
                            EXPECT_EQ(progress.phase, Progress::Phase::train) << "no warm-up";
                            made.back() = progress.step;
                            return Action::proceed;
                          }},
                          .recipe = {.warm_up = 2, .gate_rate = 0.3}};
  };
  const auto gatings = refined_gatings({"hidden", method, 0.01}, {0.1, 10}, *task_.training,
                                       *task_.validation, trainer_of);
  ASSERT_EQ(gatings.size(), 3u);
  EXPECT_EQ(made, (std::vector<int64_t>{3, 3})) << "half of the steps";
  EXPECT_EQ(gatings[1].epsilon, 0.1);
  EXPECT_EQ(gatings[2].name, "hidden");
  const auto scores = [&](const Gating& of) { return of.method.attribute(all()).scores; };
  EXPECT_TRUE(scores(gatings[0]).equal(before)) << "the first stays as it is";
  EXPECT_FALSE(scores(gatings[1]).equal(before));
  EXPECT_FALSE(scores(gatings[2]).equal(scores(gatings[1])));
  expect_refused(
      {{"trainer",
        [&] {
          refined_gatings({"a", method, 1}, {1}, *task_.training, *task_.validation, nullptr);
        },
        "trainer_of has to be a function"}});
}

}  // namespace
}  // namespace diffmask
