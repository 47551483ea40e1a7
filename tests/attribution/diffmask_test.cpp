#include "diffmask/attribution/diffmask.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "diffmask/program/exported.hpp"
#include "tests/bad_input.hpp"
#include "tests/program/exported_archive.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

class DiffMaskTest : public testing::Test {
 protected:
  DiffMask fitted(ExplainerOptions options = {}, int64_t steps = 30, uint64_t seed = 0) const {
    DiffMask method(task_.model, std::move(options));
    method.fit(*task_.training, *task_.validation, training_options(steps, seed));
    return method;
  }

  const TrainingTask task_ = training_task();
  const Batch batch_ = task_.validation->batch(iota(20));
};

bool same(const Attribution& a, const Attribution& b) {
  return a.sites == b.sites && a.scores.equal(b.scores) && a.keep.equal(b.keep) &&
         a.mask.equal(b.mask);
}

TEST_F(DiffMaskTest, ScoresAreKeepProbabilities) {
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    const DiffMask method = fitted({.masking = masking});
    const Attribution attribution = method.attribute(batch_);
    EXPECT_EQ(attribution.sites, (std::vector<std::string>{"low", "high"}));
    ASSERT_EQ(attribution.scores.sizes(), at::IntArrayRef({20, 5, 2}));
    EXPECT_EQ(attribution.scores.scalar_type(), at::kFloat);
    EXPECT_FALSE(attribution.scores.requires_grad());
    EXPECT_TRUE(attribution.mask.equal(batch_.mask));
    EXPECT_EQ(attribution.keep.scalar_type(), at::kBool);
    EXPECT_TRUE(attribution.keep.equal(attribution.scores.gt(0.5)));
    const at::Tensor padding = batch_.mask.logical_not().unsqueeze(2).expand({20, 5, 2});
    ASSERT_TRUE(padding.any().item<bool>());
    EXPECT_TRUE(attribution.scores.masked_select(padding).eq(0).all().item<bool>());
    const at::Tensor inside = attribution.scores.masked_select(padding.logical_not());
    EXPECT_GT(inside.min().item<float>(), 0);
    EXPECT_LE(inside.max().item<float>(), 1);
    EXPECT_GT(inside.std().item<float>(), 1e-3) << "scores all alike test nothing";
    EXPECT_TRUE(attribution.depths_survived().equal(attribution.scores.sum(2)));

    // What the explainer gives, depth by depth.
    at::NoGradGuard no_grad;
    const Recording recording = task_.model->record(batch_.inputs);
    const auto gates = method.explainer().gates(recording, batch_, {0, 1}, Draw::mean);
    for (int64_t depth = 0; depth < 2; ++depth) {
      const at::Tensor keep = gates[static_cast<size_t>(depth)].log_keep.exp();
      EXPECT_TRUE(attribution.scores.select(2, depth)
                      .masked_select(batch_.mask)
                      .equal(keep.masked_select(batch_.mask)));
    }
    if (masking == Masking::input) {
      EXPECT_TRUE(
          attribution.scores.select(2, 1).le(attribution.scores.select(2, 0)).all().item<bool>())
          << "a position that is dropped stays dropped";
    }
  }
}

TEST_F(DiffMaskTest, ChosenSitesAreTheDepths) {
  const DiffMask method = fitted({.sites = {"high"}});
  const Attribution attribution = method.attribute(batch_);
  EXPECT_EQ(attribution.sites, (std::vector<std::string>{"high"}));
  EXPECT_EQ(attribution.scores.sizes(), at::IntArrayRef({20, 5, 1}));
}

TEST_F(DiffMaskTest, PaddingDoesNotMatter) {
  const DiffMask method = fitted({.masking = Masking::input});
  const at::Tensor together = method.attribute(batch_).scores;
  for (const int64_t i : {0, 7, 19}) {
    const at::Tensor alone = method.attribute(task_.validation->batch({i})).scores;
    const int64_t length = task_.validation->length(i);
    EXPECT_TRUE(at::allclose(alone[0], together[i].narrow(0, 0, length), 0, 1e-5));
  }
}

TEST_F(DiffMaskTest, MaskedOutputRunsOnTheMaskedState) {
  const DiffMask method = fitted();
  const Recording recording = task_.model->record(batch_.inputs);
  const at::Tensor ones = at::ones({20, 5}), z = at::rand({20, 5}, make_generator(1));
  for (int64_t depth = 0; depth < 2; ++depth) {
    EXPECT_TRUE(method.masked_output(batch_, depth, ones).equal(recording.output()));
    const std::string site = method.explainer().masked_site(depth);
    const at::Tensor h = recording.state(site), gate = z.unsqueeze(2);
    const at::Tensor masked =
        gate * h + (1 - gate) * method.explainer().baselines()[static_cast<size_t>(depth)];
    const at::Tensor expected = task_.model->resume(recording, site, masked);
    EXPECT_TRUE(at::allclose(method.masked_output(batch_, depth, z), expected, 0, 1e-6));
    EXPECT_FALSE(method.masked_output(batch_, depth, z).requires_grad());
    EXPECT_FALSE(method.masked_output(batch_, depth, z).equal(recording.output()));
  }
}

TEST_F(DiffMaskTest, EvaluatesItsGatesOverADataSet) {
  const DiffMask method = fitted();
  const auto found = method.evaluate(*task_.validation, divergence::classes, 0.05);
  const Attribution attribution = method.attribute(batch_);
  const at::Tensor y = task_.model->record(batch_.inputs).output();
  ASSERT_EQ(found.size(), 2u);
  for (int64_t depth = 0; depth < 2; ++depth) {
    const at::Tensor z = attribution.keep.select(2, depth).to(at::kFloat);
    const at::Tensor rows = divergence::classes(y, method.masked_output(batch_, depth, z));
    const DepthEvaluation& at = found[static_cast<size_t>(depth)];
    EXPECT_NEAR(at.hard_divergence, rows.mean().item<double>(), 1e-6);
    EXPECT_NEAR(at.within, rows.le(0.05).to(at::kDouble).mean().item<double>(), 1e-12);
    EXPECT_NE(at.divergence, at.hard_divergence);
  }
}

// What leave-one-out and others put in place of a state is what its own masks put there.
TEST_F(DiffMaskTest, WhatItLearnedIsAFill) {
  const at::Tensor zeros = at::zeros({20, 5});
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    const DiffMask method = fitted({.masking = masking});
    const Fill learned = method.learned_fill();
    const Recording recording = task_.model->record(batch_.inputs);
    for (int64_t depth = 0; depth < 2; ++depth) {
      const std::string site = method.explainer().masked_site(depth);
      const at::Tensor filled = fill::value(learned, site, recording.state(site));
      EXPECT_FALSE(filled.requires_grad());
      EXPECT_TRUE(task_.model->resume(recording, site, filled)
                      .equal(method.masked_output(batch_, depth, zeros)));
    }
    if (masking == Masking::input) {
      expect_refused({{"site",
                       [&] {
                         fill::value(learned, "high", at::zeros({1, 1, 4}));
                       },
                       "but got high"}});
    }
  }
  const auto model = image_model();
  DiffMask images(model, image_options());
  const ImageData data(24, 1);
  images.fit(data, training_options(3));
  const Batch batch = data.batch(iota(4));
  const Recording recording = model->record(batch.inputs);
  const at::Tensor filled = fill::value(images.learned_fill(), "0", recording.state("0"));
  EXPECT_TRUE(model->resume(recording, "0", filled)
                  .equal(images.masked_output(batch, 0, at::zeros({4, 4}))));
}

TEST_F(DiffMaskTest, HoldsOutATenthToValidateOn) {
  const auto first = [&](uint64_t seed) {
    DiffMask method(task_.model);
    const Summary summary = method.fit(*task_.training, training_options(10, seed));
    EXPECT_EQ(summary.steps, 10);
    EXPECT_EQ(summary.depths.size(), 2u);
    return method.attribute(batch_);
  };
  EXPECT_TRUE(same(first(1), first(1)));
  EXPECT_FALSE(same(first(1), first(2)));
  // Four of 48 are held out: a single batch of validation.
  std::set<double> sizes;
  DiffMask method(task_.model);
  TrainerOptions options = training_options(1);
  options.divergence = [&](const at::Tensor& y, const at::Tensor& masked) {
    if (!at::GradMode::is_enabled()) sizes.insert(static_cast<double>(y.size(0)));
    return divergence::categorical(y, masked);
  };
  method.fit(*task_.training, options);
  EXPECT_EQ(sizes, (std::set<double>{4}));
}

TEST_F(DiffMaskTest, SameSeedSameBits) {
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    const auto scores = [&](uint64_t seed) {
      return fitted({.masking = masking}, 10, seed).attribute(batch_);
    };
    EXPECT_TRUE(same(scores(1), scores(1)));
    EXPECT_FALSE(same(scores(1), scores(2)));
  }
}

TEST_F(DiffMaskTest, PerSampleExplainsTheExamplesItWasFittedTo) {
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    DiffMask method(task_.model, {.masking = masking, .probe = free_logits()});
    TrainerOptions options = training_options(30);
    options.recipe.gate_rate = 0.5;
    const Summary summary = method.fit(*task_.training, options);
    const Batch all = task_.training->batch(iota(48));
    const Attribution attribution = method.attribute(all);
    EXPECT_EQ(attribution.scores.sizes(), at::IntArrayRef({48, 5, 2}));
    // Validated on the very examples.
    RecordedBatches data(*task_.model, *task_.training, attribution.sites, options.batches);
    const auto now = evaluate(*task_.model, method.explainer(), data, options.divergence, 0.05);
    EXPECT_EQ(summary.depths[1].validation.keep, now[1].keep);
    // An example's scores are its own, wherever it stands in a batch.
    const Attribution some = method.attribute(task_.training->batch({40, 3}));
    const int64_t length = some.scores.size(1);
    EXPECT_TRUE(some.scores[0].equal(attribution.scores[40].narrow(0, 0, length)));
    EXPECT_TRUE(some.scores[1].equal(attribution.scores[3].narrow(0, 0, length)));
    EXPECT_GT(attribution.scores.masked_select(all.mask.unsqueeze(2)).std().item<float>(), 1e-3);
    Batch unknown = task_.training->batch({0});
    unknown.examples.fill_(48);
    Batch unnumbered = unknown;
    unnumbered.examples = at::Tensor();
    expect_refused({
        {"example 48 of 48", [&] { method.attribute(unknown); }, "48"},
        {"no number", [&] { method.attribute(unnumbered); }, "batch.examples has to be given"},
    });
  }
}

TEST_F(DiffMaskTest, ExplainsPatchesOfImages) {
  DiffMask method(image_model(), image_options());
  const ImageData training(24, 1), validation(8, 2);
  method.fit(training, validation, training_options(10));
  const Attribution attribution = method.attribute(validation.batch(iota(8)));
  EXPECT_EQ(attribution.scores.sizes(), at::IntArrayRef({8, 4, 2}));
  EXPECT_GT(attribution.scores.std().item<float>(), 0);
}

TEST_F(DiffMaskTest, ThreadsGetTheSameBits) {
  const DiffMask method = fitted({.masking = Masking::input});
  const Attribution alone = method.attribute(batch_);
  std::vector<int> different(2, 0);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      for (int run = 0; run < 50; ++run) different[i] += !same(method.attribute(batch_), alone);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(different, (std::vector<int>{0, 0}));
}

TEST_F(DiffMaskTest, AFitThatThrowsLeavesTheOldOne) {
  DiffMask method = fitted();
  const Attribution before = method.attribute(batch_);
  const Callback fails = [](const Progress& now) -> Action {
    if (now.step == 3) throw std::domain_error("a callback's own exception");
    return Action::proceed;
  };
  TrainerOptions options = training_options(10, 5);
  options.callbacks = {fails};
  EXPECT_THROW(method.fit(*task_.training, *task_.validation, options), std::domain_error);
  EXPECT_TRUE(same(method.attribute(batch_), before));
}

TEST_F(DiffMaskTest, RefineGoesOnFromWhatThereIs) {
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    const DiffMask first = fitted({.masking = masking});
    TrainerOptions still = training_options(1);
    still.recipe.warm_up = 0;
    still.recipe.gate_rate = still.recipe.baseline_rate = 1e-30;
    DiffMask second = first;
    second.refine(*task_.training, *task_.validation, still);
    EXPECT_TRUE(same(second.attribute(batch_), first.attribute(batch_)));
    const Attribution before = first.attribute(batch_);
    second.refine(*task_.training, *task_.validation, training_options(5));
    EXPECT_FALSE(same(second.attribute(batch_), before));
    EXPECT_TRUE(same(first.attribute(batch_), before)) << "a copy keeps its own";
  }
}

TEST_F(DiffMaskTest, RefusesBeforeItIsFitted) {
  DiffMask method(task_.model);
  const std::string message = "DiffMask has to be fitted or loaded first";
  expect_refused<Error>({
      {"attribute", [&] { method.attribute(batch_); }, message},
      {"masked output",
       [&] {
         method.masked_output(batch_, 0, at::ones({20, 5}));
       },
       message},
      {"explainer", [&] { method.explainer(); }, message},
      {"refine", [&] { method.refine(*task_.training, *task_.validation, training_options(1)); },
       message},
      {"save", [&] { method.save("/nonexistent/a"); }, message},
  });
}

TEST_F(DiffMaskTest, RefusesBadInput) {
  const DiffMask method = fitted({}, 1);
  const auto attribute = [&](const std::function<void(Batch&)>& change) {
    return [&, change] {
      Batch batch = batch_;
      change(batch);
      method.attribute(batch);
    };
  };
  const auto fit = [&](const Dataset& training, const Dataset& validation, double epsilon = 0.1) {
    return [&, epsilon] {
      TrainerOptions options = training_options(1);
      options.epsilon = epsilon;
      DiffMask(task_.model).fit(training, validation, options);
    };
  };
  const ImageData none(0, 1);
  const auto one = training_data(1, 1);
  expect_refused({
      {"no model", [] { DiffMask method(nullptr); }, "model has to be a model"},
      {"unknown site", [&] { DiffMask(task_.model, {.sites = {"hihg"}}); },
       "'hihg' (nearest: high, low)"},
      {"no gate", [&] { DiffMask(task_.model, {.gate = nullptr}); }, "gate has to be a gate"},
      {"empty batch", [&] { method.attribute({}); }, "batch.inputs has to be at least one tensor"},
      {"no examples", attribute([](Batch& batch) {
         batch.mask = batch.mask.narrow(0, 0, 0);
         batch.inputs = {batch.inputs[0].narrow(0, 0, 0), batch.mask};
       }),
       "batch.mask has to be of at least one example, but got (0, 5)"},
      {"no positions", attribute([](Batch& batch) {
         batch.mask = batch.mask.narrow(1, 0, 0);
         batch.inputs = {batch.inputs[0].narrow(1, 0, 0), batch.mask};
       }),
       "batch.mask has to be of at least one position"},
      {"only padding", attribute([](Batch& batch) {
         batch.mask = batch.mask.clone();
         batch.mask[3].fill_(false);
       }),
       "only padding in row 3"},
      {"mask's shape", attribute([](Batch& batch) { batch.mask = batch.mask.narrow(1, 0, 2); }),
       "batch.mask has to be of shape (20, 5), but got (20, 2)"},
      {"NaN", attribute([](Batch& batch) { batch.inputs[0] = batch.inputs[0] * NAN; }),
       "state at 'low' has to be finite"},
      {"depth 2 of 2",
       [&] {
         method.masked_output(batch_, 2, at::ones({20, 5}));
       },
       "depth has to be in 0..1, but got 2"},
      {"no training data", fit(none, *task_.validation), "training has to be of at least one"},
      {"no validation data", fit(*task_.training, none), "validation has to be of at least one"},
      {"no epsilon", fit(*task_.training, *task_.validation, 0), "epsilon has to be > 0"},
      {"one example", [&] { DiffMask(task_.model).fit(*one, training_options(1)); },
       "data has to be of at least two examples, one to validate on, but got 1"},
  });
}

// The pipeline does not care where a model comes from: y = mean over t of tanh(W x_t), from a file.
TEST(DiffMaskOnProgramsTest, ExplainsAnExportedProgram) {
  using A = ExportedArchive;
  A archive;
  archive.graph()["tensor_values"]["x"] =
      A::meta({A::symbol("b"), A::symbol("t"), A::size(3)}, {A::size(15), A::size(3), A::size(1)});
  archive.program["range_constraints"] = nlohmann::json::object();
  archive.nodes().push_back(
      A::node("torch.ops.aten.mean.dim",
              {A::input("self", A::tensor("tanh_")), A::input("dim", {{"as_ints", {1}}})},
              A::tensor("mean")));
  archive.graph()["outputs"] = nlohmann::json::array({A::tensor("mean")});
  archive.program["graph_module"]["signature"]["output_specs"][0]["user_output"]["arg"] =
      A::tensor("mean");
  const TemporaryFolder folder;
  archive.write(folder / "net.pt2");
  const auto model = load_program(folder / "net.pt2");
  const at::Tensor x = at::randn({40, 5, 3}, make_generator(1));
  const PaddedDataset data({{x, /*is_sequence=*/true}}, at::full({40}, 5, at::kLong), {},
                           /*mask_is_input=*/false);
  DiffMask method(model, {.sites = {"act"}});
  const Summary summary = method.fit(data, training_options(20));
  EXPECT_LT(summary.depths[0].validation.divergence, INFINITY);
  const Attribution attribution = method.attribute(data.batch({0, 1}));
  EXPECT_EQ(attribution.sites, std::vector<std::string>{"act"});
  EXPECT_EQ(attribution.scores.sizes(), at::IntArrayRef({2, 5, 1}));
  method.save(folder / "explainer.safetensors");
  const auto again =
      DiffMask::load(folder / "explainer.safetensors", load_program(folder / "net.pt2"));
  EXPECT_TRUE(same(again.attribute(data.batch({0, 1})), attribution));
}

}  // namespace
}  // namespace diffmask
