// Layouts by name, models whose states are arranged, and the check that a layout is true.
#include "diffmask/mask/arranged.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/attribution/gradient/integrated_gradients.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/mask/masking.hpp"
#include "diffmask/model/staged.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

at::Tensor drawn(std::vector<int64_t> shape, uint64_t seed = 1) {
  return at::randn(shape, make_generator(seed));
}

double largest_of(const at::Tensor& t) { return t.abs().max().item<double>(); }

TEST(NamedAxesTest, EveryLayoutIsItsBatchFirstOneMoved) {
  struct Case {
    std::string axes;
    std::vector<int64_t> shape, order;  // from the batch, positions and features
  };
  const at::Tensor vector = drawn({5});
  for (const Case& each : std::vector<Case>{{"TBF", {3, 2, 5}, {1, 0, 2}},
                                            {"BCL", {2, 5, 3}, {0, 2, 1}},
                                            {"BHWC", {2, 3, 4, 5}, {0, 1, 2, 3}},
                                            {"BCDHW", {2, 5, 3, 4, 2}, {0, 2, 3, 4, 1}},
                                            {"HCWB", {3, 5, 4, 2}, {3, 0, 2, 1}}}) {
    SCOPED_TRACE(each.axes);
    const Positions positions = Positions::of(each.axes);
    const at::Tensor state = drawn(each.shape), plain = state.permute(each.order);
    const at::Tensor features = plain.reshape({2, -1, 5});
    EXPECT_TRUE(positions.features(state).equal(features));
    EXPECT_TRUE(positions.restore(positions.arrange(state)).equal(state));
    EXPECT_TRUE(positions.arranged().features(positions.arrange(state)).equal(features));
    EXPECT_EQ(positions.examples(state), 2);
    EXPECT_EQ(positions.channels(state), 5);
    const at::Tensor z = drawn({2, features.size(1)}, 2);
    const at::Tensor there =
        masked(state, positions.expand(z, state), positions.expand_vector(vector));
    EXPECT_TRUE(positions.features(there).allclose(masked(features, z.unsqueeze(2), vector)));
    const at::Tensor in_place = positions.in_place(z, state);
    const auto axis = static_cast<int64_t>(each.axes.find_first_of("FC"));
    EXPECT_TRUE(in_place.unsqueeze(axis).equal(positions.expand(z, state)));
  }
}

TEST(NamedAxesTest, RowsOfAnExampleAndGraphsWithoutABatch) {
  const Positions choices = Positions::of("(B2)TF"), nodes = Positions::of("NF");
  const at::Tensor state = drawn({6, 4, 5});
  EXPECT_TRUE(choices.features(state).equal(state.view({3, 8, 5})));
  EXPECT_TRUE(choices.restore(choices.arrange(state)).equal(state));
  const at::Tensor z = drawn({3, 8}, 2);
  EXPECT_TRUE(choices.in_place(z, state).equal(z.view({6, 4})));
  EXPECT_TRUE(choices.expand(z, state).equal(z.view({6, 4, 1})));
  EXPECT_TRUE(nodes.features(state[0]).equal(state[0].unsqueeze(0)));
  EXPECT_TRUE(
      nodes.in_place(z.narrow(0, 0, 1).narrow(1, 0, 4), state[0]).equal(z[0].narrow(0, 0, 4)));
  EXPECT_TRUE(nodes.unbatched());
  EXPECT_FALSE(choices.batch_first());
  EXPECT_TRUE(Positions::of("BCDHW").batch_first());
}

TEST(NamedAxesTest, PatchesOfVolumesAndSignals) {
  Positions cubes = Positions::of("BCDHW");
  cubes.patch = 2;
  const at::Tensor state = drawn({2, 3, 4, 2, 6});
  const at::Tensor features = cubes.features(state);
  ASSERT_EQ(features.sizes(), at::IntArrayRef({2, 2 * 1 * 3, 3 * 8}));
  const at::Tensor cell = state.slice(2, 2, 4).slice(4, 4, 6);  // depth 1, width 2
  EXPECT_TRUE(features.select(1, 5).equal(cell.flatten(1)));
}

TEST(NamedAxesTest, RefusesWhatIsNone) {
  const auto of = [](const char* axes) { return [axes] { Positions::of(axes); }; };
  expect_refused({
      {"small letters", of("tbf"), "positions.axes has to be a letter for each axis"},
      {"twice", of("TTF"), "each once"},
      {"two features", of("TFC"), "F or C once at most"},
      {"no position", of("BF"), "but got 'BF'"},
      {"rows of features", of("(F2)T"), "but got '(F2)T'"},
      {"no number", of("(B)TF"), "but got '(B)TF'"},
      {"never closed", of("(B2TF"), "but got '(B2TF'"},
      {"another shape",
       [] {
         Positions::of("TBF").features(at::zeros({2, 3}));
       },
       "state has to be of shape (T, B, F), as its axes are named 'TBF', but got (2, 3)"},
      {"rows that do not go round",
       [] {
         Positions::of("(B4)TF").features(at::zeros({6, 3, 2}));
       },
       "state has to be of 4 rows for each example"},
  });
}

// A recurrent net whose states are (T, B, F), as torch::nn::LSTM has them: y = head(last state).
struct TimeFirst {
  torch::nn::LSTM lstm{3, 4};
  torch::nn::Linear head{4, 2};
  std::shared_ptr<StagedModel> model;

  TimeFirst() {
    at::manual_seed(3);
    lstm = torch::nn::LSTM(3, 4);
    head = torch::nn::Linear(4, 2);
    auto module = std::make_shared<torch::nn::Module>();
    module->register_module("lstm", lstm);
    module->register_module("head", head);
    for (auto& parameter : module->parameters()) parameter.data().mul_(2);
    module->eval();
    model = std::make_shared<StagedModel>(
        module, std::vector<Stage>{
                    {"input", [](const at::Tensor& x, const Inputs&) { return x.clone(); }},
                    {"head", [this](const at::Tensor& x, const Inputs&) { return after(x); }}});
  }

  at::Tensor after(const at::Tensor& x) const {
    auto run = lstm;
    auto last = head;
    return last->forward(std::get<0>(run->forward(x))[-1]);
  }

  static Batch batch_of(const at::Tensor& x) {
    Batch batch{{x}, at::ones({x.size(1), x.size(0)}, at::kBool)};
    batch.axes = {1};
    return batch;
  }

  AttributionOptions options() const {
    return {
        .sites = {"input"}, .positions = {Positions::of("TBF")}, .target = target::class_index(1)};
  }
};

// By autograd along the path, each example by itself; and by erasing each step of each.
TEST(ArrangedTest, MethodsExplainStatesWithTheTimeFirst) {
  const TimeFirst net;
  for (const auto& [length, examples] : {std::pair(4, 4), std::pair(6, 3), std::pair(2, 5)}) {
    SCOPED_TRACE(fmt::format("T = {}, B = {}", length, examples));
    const at::Tensor x = drawn({length, examples, 3});
    const Batch batch = TimeFirst::batch_of(x);
    at::Tensor sum = at::zeros_like(x);
    constexpr int64_t kSteps = 400;
    for (int64_t k = 0; k < kSteps; ++k) {
      const at::Tensor at_k = (x * ((k + 0.5) / kSteps)).requires_grad_(true);
      sum += torch::autograd::grad({net.after(at_k).select(1, 1).sum()}, {at_k})[0];
    }
    const at::Tensor expected = (sum / kSteps * x).sum(2).t();
    const Attribution found = IntegratedGradients(net.model, net.options()).attribute(batch);
    EXPECT_LT(largest_of(found.scores.select(2, 0) - expected), 1e-3);
    EXPECT_EQ(found.features[0].sizes(), x.sizes());
    const Attribution one = LeaveOneOut(net.model, net.options()).attribute(batch);
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t b = 0; b < examples; ++b) {
        at::Tensor without = x.clone();
        without[t][b].zero_();
        const at::Tensor drop = (net.after(x) - net.after(without))[b][1];
        EXPECT_NEAR(one.scores[b][t][0].item<double>(), drop.item<double>(), 1e-5);
      }
    }
  }
}

TEST(ArrangedTest, ALayoutThatMixesExamplesIsRefused) {
  const TimeFirst net;
  const at::Tensor x = drawn({4, 4, 3});
  Batch batch{{x}, at::ones({4, 4}, at::kBool)};
  AttributionOptions options = net.options();
  options.positions = {};
  expect_refused(
      {{"integrated gradients", [&] { IntegratedGradients(net.model, options).attribute(batch); },
        "state at 'input' has to be laid out as 'BTF', but to change one example's part "
        "changes other examples' outputs, too"},
       {"leave one out", [&] { LeaveOneOut(net.model, options).attribute(batch); }, "--layout"}});
  const Recording recording = net.model->record({x});
  EXPECT_GT(leak(*net.model, recording, "input", {}), 0.5);
  EXPECT_EQ(leak(*net.model, recording, "input", Positions::of("TBF")), 0);
}

// y = softmax(A x) w for all examples; A (P, P) shared, B = P by chance.
TEST(UnbatchedInputTest, WhatAllShareIsNotTakenForExamples) {
  auto module = std::make_shared<torch::nn::Module>();
  module->eval();
  const auto after = [](const at::Tensor& x, const at::Tensor& a) {
    return at::tanh(at::matmul(a, x)).cumsum(1).square().sum(1);
  };
  const auto model = std::make_shared<StagedModel>(
      module,
      std::vector<Stage>{{"input", [](const at::Tensor& x, const Inputs&) { return x.clone(); }},
                         {"head", [after](const at::Tensor& x, const Inputs& inputs) {
                            return after(x, inputs[1]);
                          }}});
  const at::Tensor a = drawn({4, 4}, 2);
  for (const int64_t examples : {3, 4}) {
    const at::Tensor x = drawn({examples, 4, 3});
    Batch batch{{x, a}, at::ones({examples, 4}, at::kBool)};
    AttributionOptions options{.sites = {"input"}, .target = target::class_index(1)};
    at::Tensor expected = at::zeros({examples, 4});
    for (int64_t t = 0; t < 4; ++t) {
      at::Tensor without = x.clone();
      without.select(1, t).zero_();
      expected.select(1, t).copy_((after(x, a) - after(without, a)).select(1, 1));
    }
    for (const int64_t axis : {Batch::kShared, Batch::kWhole, int64_t{0}}) {
      if (axis == 0 && examples != 4) continue;  // said to be examples, which B = 4 allows
      SCOPED_TRACE(fmt::format("B = {}, axis {}", examples, axis));
      batch.axes = {0, axis};
      options.passes.max_batch = 5;
      EXPECT_LT(
          largest_of(LeaveOneOut(model, options).attribute(batch).scores.select(2, 0) - expected),
          1e-4);
    }
  }
}

TEST(UnbatchedInputTest, ExamplesAreNotChosenFromWhatHasNone) {
  const at::Tensor x = drawn({3, 4, 2}), edges = at::zeros({2, 7}, at::kLong);
  Batch batch{{x, edges}, at::ones({3, 4}, at::kBool)};
  batch.axes = {0, Batch::kShared};
  batch.validate();
  EXPECT_TRUE(batch.narrow(1, 2).inputs[1].equal(edges));
  EXPECT_EQ(batch.narrow(1, 2).inputs[0].size(0), 2);
  batch.axes = {0, Batch::kWhole};
  batch.validate();
  EXPECT_TRUE(batch.narrow(0, 3).inputs[1].equal(edges));
  expect_refused({{"two of three", [&] { batch.narrow(1, 2); },
                   "batch.inputs[1] has to be an input from which examples can be chosen"},
                  {"another order",
                   [&] {
                     batch.select(at::tensor({2, 1, 0}, at::kLong));
                   },
                   "but got (2, 7)"}});
  batch.axes = {};
  expect_refused({{"by default", [&] { batch.validate(); },
                   "batch.inputs[1] has to be of 3 examples, as batch.mask, but got (2, 7) "
                   "(Batch::axes names"}});
}

}  // namespace
}  // namespace diffmask
