#include "diffmask/mask/explainer.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <memory>
#include <set>

#include "tests/finite_difference.hpp"
#include "tests/mask/explainer_fixture.hpp"

namespace diffmask {
namespace {

bool close(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && at::allclose(a.to(at::kDouble), b.to(at::kDouble), 0, 1e-6);
}

TEST_F(ExplainerTest, HiddenGatesAreThoseOfTheirOwnProbe) {
  const auto explainer = make();
  EXPECT_EQ(explainer->sites(), (std::vector<std::string>{"low", "middle", "high"}));
  const std::vector<int64_t> depths = {0, 1, 2};
  const auto mean = explainer->gates(recording_, batch_, depths, Draw::mean);
  const auto sample = explainer->gates(recording_, batch_, depths, Draw::sample, make_generator(5));
  const HardConcrete gate;
  at::Generator generator = make_generator(5);
  for (const int64_t depth : depths) {
    const std::string site = explainer->sites()[depth];
    EXPECT_EQ(explainer->masked_site(depth), site);
    const at::Tensor logits = explainer->probe(depth).logits({recording_.state(site)});
    const auto padded = [&](const at::Tensor& x, double value) {
      return x.masked_fill(batch_.mask.logical_not(), value);
    };
    EXPECT_TRUE(mean[depth].log_keep.equal(padded(gate.log_expected_l0(logits), 0)));
    EXPECT_TRUE(mean[depth].z.equal(padded(gate.mean(logits), 1)));
    EXPECT_TRUE(sample[depth].z.equal(padded(gate.sample(logits, generator), 1)));
  }
}

TEST_F(ExplainerTest, InputGatesMultiplyOverDepths) {
  const auto explainer = make({.masking = Masking::input});
  const std::vector<int64_t> depths = {0, 1, 2};
  const auto mean = explainer->gates(recording_, batch_, depths, Draw::mean);
  const auto sample = explainer->gates(recording_, batch_, depths, Draw::sample, make_generator(5));
  const HardConcrete gate;
  at::Generator generator = make_generator(5);
  at::Tensor log_keep = at::zeros({2, 3}, at::kDouble), z = at::ones({2, 3}, at::kDouble),
             drawn = z;
  const at::Tensor padding = batch_.mask.logical_not(), low = recording_.state("low");
  for (const int64_t depth : depths) {
    SCOPED_TRACE(depth);
    EXPECT_EQ(explainer->masked_site(depth), "low");
    const at::Tensor state = recording_.state(explainer->sites()[depth]);
    const at::Tensor features = depth == 0 ? state : at::cat({low, state}, -1);
    const at::Tensor logits = explainer->probe(depth).logits({features});
    log_keep = log_keep + gate.log_expected_l0(logits);
    z = z * gate.mean(logits);
    drawn = drawn * gate.sample(logits, generator);
    EXPECT_TRUE(close(mean[depth].log_keep, log_keep.masked_fill(padding, 0)));
    EXPECT_TRUE(close(mean[depth].z, z.masked_fill(padding, 1)));
    EXPECT_TRUE(close(sample[depth].z, drawn.masked_fill(padding, 1)));
  }
}

TEST_F(ExplainerTest, PaddingIsNeverMasked) {
  for (const Masking masking : {Masking::input, Masking::hidden}) {
    const auto explainer = with_logits(masking, {-9, -9, -9});
    for (const Draw draw : {Draw::sample, Draw::mean, Draw::hard}) {
      for (const Gates& gates :
           explainer->gates(recording_, batch_, {0, 1, 2}, draw, make_generator(1))) {
        EXPECT_EQ(gates.z[1][2].item<double>(), 1);
        EXPECT_EQ(gates.log_keep[1][2].item<double>(), 0);
        EXPECT_LT(gates.z.masked_select(batch_.mask).max().item<double>(), 0.1);
      }
    }
  }
}

TEST_F(ExplainerTest, HardGatesAreThoseKeptWithMoreThanAHalf) {
  // P = sigmoid(logit + 0.32189): 0.58 at logit 0, 0.50002 at -0.3218, 0.49998 at -0.322.
  const auto z_of = [&](Masking masking, const std::vector<double>& logits) {
    std::vector<double> z;
    for (const Gates& gates :
         with_logits(masking, logits)->gates(recording_, batch_, {0, 1, 2}, Draw::hard)) {
      const at::Tensor chosen = gates.z.masked_select(batch_.mask);
      EXPECT_TRUE(chosen.eq(chosen[0]).all().item<bool>());
      z.push_back(chosen[0].item<double>());
    }
    return z;
  };
  EXPECT_EQ(z_of(Masking::hidden, {0, -0.322, -0.3218}), (std::vector<double>{1, 0, 1}));
  // Of the product: 0.58, 0.58^2 = 0.34, and closed from there on.
  EXPECT_EQ(z_of(Masking::input, {0, 0, 9}), (std::vector<double>{1, 0, 0}));
  EXPECT_EQ(z_of(Masking::input, {1, 1, 1}), (std::vector<double>{1, 1, 0}));  // .79, .62, .49
}

TEST_F(ExplainerTest, DepthsComeInTheOrderAskedForAndDoNotDependOnTheOthers) {
  for (const Masking masking : {Masking::input, Masking::hidden}) {
    const auto explainer = make({.masking = masking});
    const auto all = explainer->gates(recording_, batch_, {0, 1, 2}, Draw::mean);
    const auto some = explainer->gates(recording_, batch_, {2, 0}, Draw::mean);
    ASSERT_EQ(some.size(), 2u);
    EXPECT_TRUE(some[0].z.equal(all[2].z));
    EXPECT_TRUE(some[1].z.equal(all[0].z));
    EXPECT_TRUE(some[0].log_keep.equal(all[2].log_keep));
  }
}

TEST_F(ExplainerTest, GroupsShareOneGate) {
  batch_.groups = at::tensor({0, 1, 0, 0, -1, -1}, at::kLong).view({2, 3});
  const HardConcrete gate;
  for (const Masking masking : {Masking::input, Masking::hidden}) {
    const auto explainer = make({.masking = masking});
    for (const Draw draw : {Draw::sample, Draw::mean, Draw::hard}) {
      for (const Gates& gates :
           explainer->gates(recording_, batch_, {0, 1, 2}, draw, make_generator(1))) {
        for (const at::Tensor& values : {gates.z, gates.log_keep}) {
          EXPECT_EQ(values[0][0].item<double>(), values[0][2].item<double>());
        }
        EXPECT_NE(gates.log_keep[0][0].item<double>(), gates.log_keep[0][1].item<double>());
        EXPECT_EQ(gates.z[1][1].item<double>(), 1) << "no group: no gate";
        EXPECT_EQ(gates.log_keep[1][1].item<double>(), 0);
      }
    }
    // The shared logit is the mean of the members'.
    const at::Tensor logits = explainer->probe(0).logits({recording_.state("low")});
    const at::Tensor expected = gate.log_expected_l0((logits[0][0] + logits[0][2]) / 2);
    const auto gates = explainer->gates(recording_, batch_, {0}, Draw::mean);
    EXPECT_TRUE(close(gates[0].log_keep[0][0], expected));
  }
}

TEST_F(ExplainerTest, BernoulliGatesKnowHowLikelyTheirDrawsWere) {
  // Gates that are drawn: of row 0 all, of row 1 not the padding; then one a group.
  const at::Tensor alone = batch_.mask;
  const at::Tensor grouped = at::tensor({1, 1, 0, 1, 0, 0}).view({2, 3}).gt(0);
  const std::vector<std::pair<at::Tensor, at::Tensor>> cases = {
      {at::Tensor(), alone}, {at::tensor({0, 1, 0, 0, -1, -1}, at::kLong).view({2, 3}), grouped}};
  for (const auto& [groups, drawn] : cases) {
    batch_.groups = groups;
    for (const Masking masking : {Masking::input, Masking::hidden}) {
      const auto explainer = make({.masking = masking,
                                   .probe = mlp_probe({.initial_bias = 0.3}),
                                   .gate = std::make_shared<Bernoulli>()});
      const auto gates =
          explainer->gates(recording_, batch_, {0, 1}, Draw::sample, make_generator(1));
      const at::Tensor z = gates[0].z, log_keep = gates[0].log_keep;
      const at::Tensor each = at::where(z.gt(0), log_keep, at::log(-at::expm1(log_keep)));
      const at::Tensor expected = at::where(drawn, each, at::zeros_like(each)).sum(1);
      EXPECT_TRUE(close(gates[0].log_prob, expected));
      EXPECT_TRUE(z.eq(0).logical_or(z.eq(1)).all().item<bool>());
      EXPECT_TRUE(gates[0].log_prob.requires_grad());
      EXPECT_FALSE(z.requires_grad());
      // Each depth up to this one has drawn, with input gating.
      const auto below = torch::autograd::grad(
          {gates[1].log_prob.sum()}, explainer->probe(0).parameters(), {}, true, false, true);
      EXPECT_EQ(below[0].defined(), masking == Masking::input);
      for (const Draw draw : {Draw::mean, Draw::hard}) {
        EXPECT_FALSE(explainer->gates(recording_, batch_, {0}, draw)[0].log_prob.defined());
      }
    }
    EXPECT_FALSE(make()
                     ->gates(recording_, batch_, {0}, Draw::sample, make_generator(1))[0]
                     .log_prob.defined());
  }
}

TEST_F(ExplainerTest, MaskedOutputRunsTheModelOnTheMaskedState) {
  const at::Tensor z = at::tensor({1.0, 0.0, 0.5, 0.25, 1.0, 1.0}, at::kDouble).view({2, 3});
  for (const Masking masking : {Masking::input, Masking::hidden}) {
    const auto explainer = make({.masking = masking});
    for (int64_t depth = 0; depth < 3; ++depth) {
      const std::string site = explainer->masked_site(depth);
      const at::Tensor baseline = explainer->baselines()[masking == Masking::input ? 0 : depth];
      const at::Tensor h = recording_.state(site), gate = z.unsqueeze(-1);
      const at::Tensor expected = gate * h + (1 - gate) * baseline;
      EXPECT_TRUE(explainer->masked_state(recording_, depth, z).equal(expected));
      EXPECT_TRUE(explainer->masked_output(*model_, recording_, depth, z)
                      .equal(model_->resume(recording_, site, expected)));
      EXPECT_TRUE(explainer->masked_output(*model_, recording_, depth, at::ones_like(z))
                      .equal(recording_.output()));
    }
  }
}

TEST_F(ExplainerTest, BaselinesBeginWhereAsked) {
  using Start = BaselineOptions::Start;
  const auto means = make()->baselines();
  ASSERT_EQ(means.size(), 3u);
  for (int64_t depth = 0; depth < 3; ++depth) {
    const at::Tensor state = recording_.state(make()->sites()[depth]);
    const at::Tensor five = at::cat({state[0], state[1].narrow(0, 0, 2)});  // without the padding
    EXPECT_TRUE(close(means[depth], five.mean(0)));
    EXPECT_TRUE(means[depth].requires_grad());
  }
  EXPECT_EQ(make({.masking = Masking::input})->baselines().size(), 1u);
  const BaselineOptions zero{.start = Start::zero, .learned = false};
  for (const at::Tensor& baseline : make({.baseline = zero})->baselines()) {
    EXPECT_TRUE(baseline.eq(0).all().item<bool>());
    EXPECT_FALSE(baseline.requires_grad());
  }
  const at::Tensor given = at::arange(4, at::TensorOptions(at::kDouble));
  const auto explainer = make({.masking = Masking::input, .baseline = {Start::given, {given}}});
  EXPECT_TRUE(explainer->baselines()[0].equal(given));
  EXPECT_FALSE(explainer->baselines()[0].is_same(given));
}

TEST_F(ExplainerTest, PerSampleLogitsAreTheExamplesOwn) {
  for (const Masking masking : {Masking::input, Masking::hidden}) {
    const auto explainer = make({.masking = masking, .probe = free_logits()});
    const at::Tensor table = explainer->probe(0).parameters().at(0);
    EXPECT_EQ(table.sizes(), at::IntArrayRef({5, 3}));
    {
      at::NoGradGuard no_grad;
      table.copy_(at::arange(15).view({5, 3}) - 7);
    }
    const auto gates = explainer->gates(recording_, batch_, {0}, Draw::mean);
    const at::Tensor logits =
        at::tensor({5, 6, 7, -4, -3, -2}).view({2, 3}).to(at::kDouble);  // examples 4 and 1
    const at::Tensor expected =
        HardConcrete().log_expected_l0(logits).masked_fill(batch_.mask.logical_not(), 0);
    EXPECT_TRUE(close(gates[0].log_keep, expected));
    {
      at::NoGradGuard no_grad;
      table.fill_(50);
    }
    explainer->project();
    EXPECT_TRUE(table.eq(10).all().item<bool>());
  }
}

TEST_F(ExplainerTest, HiddenDepthsShareNoParameterAndInputDepthsAll) {
  for (const ProbeFactory& probe : {mlp_probe(), free_logits()}) {
    const auto hidden = make({.probe = probe});
    std::set<const void*> seen;
    for (int64_t depth = 0; depth < 3; ++depth) {
      const at::Tensor baseline = hidden->baselines()[static_cast<size_t>(depth)];
      bool has_baseline = false;
      for (const at::Tensor& parameter : hidden->parameters_of(depth)) {
        EXPECT_TRUE(seen.insert(parameter.unsafeGetTensorImpl()).second) << "is of two depths";
        has_baseline |= parameter.is_same(baseline);
      }
      EXPECT_TRUE(has_baseline);
    }
    EXPECT_EQ(seen.size(), hidden->parameters().size());
    EXPECT_EQ(hidden->gate_parameters().size() + hidden->baselines().size(),
              hidden->parameters().size());
  }
  const auto input = make({.masking = Masking::input});
  EXPECT_EQ(input->parameters_of(1).size(), input->parameters().size());
}

TEST_F(ExplainerTest, SameSeedSameBits) {
  const auto z_of = [&](uint64_t seed, uint64_t draw) {
    return make({}, seed)->gates(recording_, batch_, {2}, Draw::sample, make_generator(draw))[0].z;
  };
  EXPECT_TRUE(z_of(1, 2).equal(z_of(1, 2)));
  EXPECT_FALSE(make({}, 1)->gate_parameters()[0].equal(make({}, 2)->gate_parameters()[0]));
  const auto open = with_logits(Masking::hidden, {0, 0, 0});
  const auto draw = [&](uint64_t seed) {
    return open->gates(recording_, batch_, {2}, Draw::sample, make_generator(seed))[0].z;
  };
  EXPECT_TRUE(draw(1).equal(draw(1)));
  EXPECT_FALSE(draw(1).equal(draw(2)));
}

// The whole objective: the model's output under sampled gates and the penalty, by every parameter.
TEST_F(ExplainerTest, GradientsAgreeWithFiniteDifferences) {
  batch_.groups = at::tensor({0, 1, 0, 0, 1, -1}, at::kLong).view({2, 3});
  for (const Masking masking : {Masking::input, Masking::hidden}) {
    // Wide enough that at every position some gate is neither 0 nor 1.
    const ExplainerOptions options{
        .masking = masking,
        .probe = mlp_probe({.hidden_size = 2, .initial_bias = 0.4}),
        .gate = std::make_shared<HardConcrete>(HardConcreteOptions{.tau = 0.8})};
    const auto explainer = make(options);
    const auto objective = [&] {
      at::Tensor sum = at::zeros({}, at::kDouble);
      const std::vector<int64_t> depths = {0, 1, 2};
      const auto gates =
          explainer->gates(recording_, batch_, depths, Draw::sample, make_generator(8));
      for (const int64_t depth : depths) {
        const at::Tensor y = explainer->masked_output(*model_, recording_, depth, gates[depth].z);
        sum = sum + (y - recording_.output()).square().sum() + 0.3 * gates[depth].log_keep.sum();
      }
      return sum;
    };
    for (const auto& item : explainer->named_parameters()) {
      SCOPED_TRACE(item.key() + (masking == Masking::input ? ", input" : ", hidden"));
      expect_gradient_at(objective, item.value());
    }
  }
}

TEST_F(ExplainerTest, ReadsPatchesOfImages) {
  torch::nn::Sequential net(torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 3, 3).padding(1)),
                            torch::nn::Flatten());
  net->eval();
  const auto model = StagedModel::from(net.ptr());
  const Inputs inputs = {at::randn({2, 1, 4, 6}, make_generator(1))};
  const Recording recording = model->record(inputs);
  Batch batch{inputs, at::ones({2, 6}, at::kBool), at::arange(2)};
  batch.mask[1][5] = false;
  const ExplainerOptions options{.positions = {{Positions::Layout::image, 2}}};
  const Explainer explainer(*model, options, recording, batch, {}, make_generator(0));
  EXPECT_EQ(explainer.shapes()[0].features, 12);
  EXPECT_EQ(explainer.shapes()[0].channels, 3);

  const at::Tensor state = recording.state("0");
  at::Tensor cells = at::ones({2, 1, 4, 6});
  cells[1].slice(1, 2, 4).slice(2, 4, 6).fill_(0);
  const at::Tensor mean = (state * cells).sum({0, 2, 3}) / cells.sum();
  EXPECT_TRUE(at::allclose(explainer.baselines()[0], mean, 0, 1e-6));

  at::Tensor z = at::ones({2, 6});
  z[0][4] = 0;  // second row of patches, second column
  at::Tensor expected = state.clone();
  expected[0].slice(1, 2, 4).slice(2, 2, 4).copy_(mean.view({3, 1, 1}).expand({3, 2, 2}));
  EXPECT_TRUE(at::allclose(explainer.masked_state(recording, 0, z), expected, 0, 1e-6));
  const auto gates = explainer.gates(recording, batch, {0}, Draw::mean);
  EXPECT_EQ(gates[0].z.sizes(), at::IntArrayRef({2, 6}));
  EXPECT_EQ(gates[0].z[1][5].item<float>(), 1);
}

}  // namespace
}  // namespace diffmask
