#include "diffmask/attribution/propagation/lrp.hpp"

#include <gtest/gtest.h>

#include "diffmask/core/libtorch.hpp"
#include "diffmask/program/exported.hpp"
#include "diffmask/program/script.hpp"
#include "tests/attribution/rule_models.hpp"
#include "tests/bad_input.hpp"

namespace diffmask::lrp_test {
namespace {

const AttributionOptions kOneNumber{.target = target::scalar};

at::Tensor numbers(const std::vector<double>& values) { return torch::tensor(values, at::kDouble); }

// y = w x + b of two positions with a number each: x = (2, -1), w = (3, 4), b = 1, so y = 3.
at::Tensor of_two(const LrpRule& rule, LrpOptions::Rest rest = LrpOptions::Rest::lost) {
  const auto f = [](const at::Tensor& x) {
    return at::linear(x.flatten(1), numbers({3, 4}).view({1, 2}), numbers({1}));
  };
  const Batch batch = numbered_batch(at::tensor({2.0, -1.0}).view({1, 2, 1}));
  const Lrp method(model_of(f), kOneNumber, {.rules = {{.rule = rule}}, .rest = rest});
  return method.attribute(batch).scores.flatten();
}

void expect_near(const at::Tensor& got, const std::vector<double>& expected) {
  EXPECT_TRUE(got.allclose(at::tensor(expected), 1e-5, 1e-5)) << got;
}

// By hand: terms 6 and -4, bias 1.
TEST(LrpTest, RulesOfWeights) {
  expect_near(of_two(lrp::epsilon()), {6, -4});
  expect_near(of_two(lrp::epsilon(3)), {3, -2});
  // w + w+ = (6, 8) for x1 > 0; w + w- = w for x2 < 0: terms 12 and -4, bias 2.
  expect_near(of_two(lrp::gamma(1)), {3.0 * 12 / 10, 3.0 * -4 / 10});
  // Above 0: 6 and the bias; below 0: -4.
  expect_near(of_two(lrp::alpha_beta(0)), {3.0 * 6 / 7, 0});
  expect_near(of_two(lrp::alpha_beta(1)), {2 * 3.0 * 6 / 7, -3});
  // (x - low) w+: 3 (2 + 2) = 12, 4 (-1 + 2) = 4.
  expect_near(of_two(lrp::z_box(at::tensor(-2.0), at::tensor(2.0))), {3.0 * 12 / 16, 3.0 * 4 / 16});
  expect_near(of_two(lrp::flat()), {1.5, 1.5});
  expect_near(of_two(lrp::epsilon(), LrpOptions::Rest::spread), {6.6, -3.6});
}

// tanh(a) + u + 1 of a = x1 + x2 nearly 0: the rest that went to a would be blown up by x1 / a.
TEST(LrpTest, TheRestGoesToWhatIsLarge) {
  const auto f = [](const at::Tensor& x) {
    const at::Tensor flat = x.flatten(1), two = flat.narrow(1, 0, 2), one = flat.narrow(1, 2, 1);
    const at::Tensor h = at::cat({at::tanh(two.sum(1, true)), one}, 1);
    return at::linear(h, at::ones({1, 2}, h.options()), numbers({1}));
  };
  const LrpOptions spread{.epsilon = 1e-12, .rest = LrpOptions::Rest::spread};
  const auto scores = [&](const std::vector<double>& x) {
    const Batch batch = numbered_batch(numbers(x).view({1, 3, 1}));
    const Attribution result = Lrp(model_of(f), kOneNumber, spread).attribute(batch);
    EXPECT_LE(result.gap.abs().max().item<double>(), 1e-6);
    return result.scores.flatten();
  };
  EXPECT_LE(scores({1e3, -1e3 + 1e-6, 2}).abs().max().item<double>(), 2e3);
  expect_near(scores({0, 0, 0}), {0.25, 0.25, 0.5});
}

// Of scores that are nearly 0, or all 0, as well.
TEST(LrpTest, SoftmaxSpreadsTheRestByScores) {
  const auto scores = [](const std::vector<double>& x, const auto& f) {
    const LrpOptions spread{.epsilon = 1e-12, .rest = LrpOptions::Rest::spread};
    const Batch batch = numbered_batch(numbers(x).view({1, 3, 1}));
    const Attribution result =
        Lrp(model_of(f), {.target = target::class_index(0)}, spread).attribute(batch);
    EXPECT_LE(result.gap.abs().max().item<double>(), 1e-9);
    return result.scores.flatten();
  };
  const auto softmax = [](const at::Tensor& x) { return at::softmax(x.flatten(1), 1); };
  const auto log_softmax = [](const at::Tensor& x) { return at::log_softmax(x.flatten(1), 1); };
  for (const at::Tensor& result : {scores({2, 0, -1}, softmax), scores({2, 0, -1}, log_softmax)}) {
    EXPECT_EQ(result[1].item<double>(), 0);
  }
  expect_near(scores({0, 0, 0}, softmax), {1.0 / 9, 1.0 / 9, 1.0 / 9});
}

// What passes through zeros is conserved, too: means, sums, interpolation of what relu cut off.
TEST(LrpTest, SumsOfZerosSpreadTheRest) {
  const auto f = [](const at::Tensor& x) {
    const at::Tensor cut = at::relu(x - 5).transpose(1, 2);
    const at::Tensor wide = at::upsample_linear1d(cut, at::IntArrayRef{5}, false, c10::nullopt);
    return at::linear(at::avg_pool1d(wide, 2).mean(2), at::ones({1, 4}, x.options()), numbers({3}))
               .sum(1) +
           x.cumsum(1).sum(at::IntArrayRef{1, 2});
  };
  const LrpOptions spread{.rest = LrpOptions::Rest::spread};
  const Batch batch = numbered_batch(random_tensor({2, 3, 4}, 6));
  const Attribution result = Lrp(model_of(f), kOneNumber, spread).attribute(batch);
  EXPECT_LE(result.gap.abs().max().item<double>(), 1e-4);
}

TEST(LrpTest, OfALinearModelItIsWeightTimesInput) {
  const at::Tensor w = random_tensor({12}, 1), x = random_tensor({2, 3, 4}, 2);
  const Lrp method(model_of([&](const at::Tensor& h) { return h.flatten(1).mv(w); }), kOneNumber,
                   {.epsilon = 1e-12});
  const Attribution result = method.attribute(numbered_batch(x));
  EXPECT_LE(relative_error(result.features[0], w.view({3, 4}) * x), 1e-9);
  EXPECT_LE(result.gap.abs().max().item<double>(), 1e-9);
}

// x1 x2 + relu(x3): half to each factor, and nothing is lost.
TEST(LrpTest, ProductsAreSharedActivationsPassed) {
  const auto f = [](const at::Tensor& x) {
    const at::Tensor flat = x.flatten(1);
    return flat.select(1, 0) * flat.select(1, 1) + at::relu(flat.select(1, 2));
  };
  const Batch batch = numbered_batch(at::tensor({2.0, 3.0, 5.0}).view({1, 3, 1}));
  expect_near(Lrp(model_of(f), kOneNumber).attribute(batch).scores.flatten(), {3, 3, 5});
}

// x1 g(x2), where the gate's input is nearly 0, and so would have a share of any size.
TEST(LrpTest, WhatAGateWeightsGetsAll) {
  using Function = at::Tensor (*)(const at::Tensor&);
  const Function gates[] = {[](const at::Tensor& x) { return at::sigmoid(x); },
                            [](const at::Tensor& x) { return 1 - at::sigmoid(x); },
                            [](const at::Tensor& x) { return at::hardsigmoid(x); },
                            [](const at::Tensor& x) { return at::sigmoid(-x).view({-1}); }};
  const Batch batch = numbered_batch(at::tensor({2.0, 1e3, -1e3 + 1e-9}).view({1, 3, 1}));
  for (const Function gate : gates) {
    const auto f = [gate](const at::Tensor& x) {
      const at::Tensor flat = x.flatten(1);
      return flat.select(1, 0) * gate(flat.select(1, 1) + flat.select(1, 2));
    };
    const auto scores = [&](LrpOptions options) {
      return Lrp(model_of(f), kOneNumber, std::move(options)).attribute(batch).scores.flatten();
    };
    expect_near(scores({}), {1, 0, 0});
    const LrpOptions half{.rules = {{.operators = "aten::*sigmoid", .rule = lrp::identity()}}};
    EXPECT_GT(scores(half).abs().max().item<double>(), 1e6);
    EXPECT_NEAR(scores(half)[0].item<double>(), 0.5, 1e-5);
  }
}

// Of x (2, 3, 4).
Attribution relevance_of(const std::function<at::Tensor(const at::Tensor&)>& f, LrpOptions options,
                         AttributionOptions common = kOneNumber) {
  const Batch batch = numbered_batch(random_tensor({2, 3, 4}, 6));
  return Lrp(model_of(f), std::move(common), std::move(options)).attribute(batch);
}

TEST(LrpTest, WrittenOutIsWhatFusedIs) {
  using Function = at::Tensor (*)(const at::Tensor&);
  const std::pair<Function, Function> pairs[] = {
      {[](const at::Tensor& x) { return at::layer_norm(x, {4}); },
       [](const at::Tensor& x) {
         const at::Tensor c = x - x.mean(2, true);
         return c / at::sqrt(c.pow(2).mean(2, true) + 1e-5);
       }},
      {[](const at::Tensor& x) { return at::glu(x, 2); },
       [](const at::Tensor& x) { return x.narrow(2, 0, 2) * at::sigmoid(x.narrow(2, 2, 2)); }}};
  for (const auto& pair : pairs) {
    const auto result = [](Function f) {
      return relevance_of([f](const at::Tensor& x) { return f(x).pow(3).sum({1, 2}); }, {});
    };
    const Attribution fused = result(pair.first), written = result(pair.second);
    EXPECT_LE(relative_error(written.features[0], fused.features[0]), 1e-6);
    EXPECT_LE(fused.gap.abs().max().item<double>(), 1e-4);
  }
}

TEST(LrpTest, EinsumWithWeightsIsTheLinearMap) {
  const at::Tensor w = random_tensor({4, 2}, 1);
  const auto einsum = [&](const at::Tensor& x) {
    return at::relu(at::einsum("btf,fg->btg", {x, w})).sum({1, 2});
  };
  const auto reversed = [&](const at::Tensor& x) {
    return at::relu(at::einsum("fg,btf->btg", {w, x})).sum({1, 2});
  };
  const auto linear = [&](const at::Tensor& x) {
    return at::relu(at::linear(x, w.t())).sum({1, 2});
  };
  for (const LrpRule& rule : {lrp::epsilon(), lrp::gamma(), lrp::alpha_beta(), lrp::flat()}) {
    const LrpOptions options{.rules = {{.rule = rule}}, .rest = LrpOptions::Rest::spread};
    const at::Tensor expected = relevance_of(linear, options).features[0];
    EXPECT_LE(relative_error(relevance_of(einsum, options).features[0], expected), 1e-9);
    EXPECT_LE(relative_error(relevance_of(reversed, options).features[0], expected), 1e-9);
  }
}

// Of x_i x_j w_ij both factors get half, of x_i x_i x_i each a third: in all, the output.
TEST(LrpTest, EinsumsFactorsShareAlike) {
  const at::Tensor x = random_tensor({2, 3, 4}, 6), w = random_tensor({3, 3}, 1);
  const LrpOptions exact{.epsilon = 1e-12};
  const auto bilinear = [&](const at::Tensor& state) {
    return at::einsum("bif,bjf,ij->b", {state, at::tanh(state), w});
  };
  const at::Tensor of_x = x * at::einsum("bjf,ij->bif", {x.tanh(), w}) / 2,
                   of_tanh = x.tanh() * at::einsum("bif,ij->bjf", {x, w}) / 2;
  const Attribution two = relevance_of(bilinear, exact);
  EXPECT_LE(relative_error(two.features[0], of_x + of_tanh), 1e-9);
  EXPECT_LE(two.gap.abs().max().item<double>(), 1e-9);
  const auto cube = [&](const at::Tensor& state) {
    return at::einsum("bif,bif,bif->b", {state, state, state});
  };
  EXPECT_LE(relative_error(relevance_of(cube, exact).features[0], x.pow(3)), 1e-9);
}

// b + x w, of which all is explained: the bias keeps what is its own.
TEST(LrpTest, AnExplainedBiasKeepsItsShare) {
  const auto f = [](const at::Tensor& state) {
    return at::baddbmm(at::sigmoid(state), state, at::tanh(state).transpose(1, 2).matmul(state))
        .sum({1, 2});
  };
  const Attribution result = relevance_of(f, {.epsilon = 1e-12});
  EXPECT_LE(result.gap.abs().max().item<double>(), 1e-9);
}

// log p_c = x_c - l: x_i (1[i = c] - p_i), and the rest is the entropy.
TEST(LrpTest, LogSoftmaxIsLinearised) {
  const at::Tensor logits = random_tensor({2, 3, 4}, 6).sum(1), p = at::softmax(logits, 1);
  const auto f = [](const at::Tensor& x) { return at::log_softmax(x.sum(1), 1); };
  const auto relevance = [&](Target target, LrpOptions::Rest rest) {
    return relevance_of(f, {.epsilon = 1e-12, .rest = rest}, {.target = std::move(target)});
  };
  const Attribution first = relevance(target::class_index(1), LrpOptions::Rest::lost);
  at::Tensor expected = -p * logits;
  expected.select(1, 1) += logits.select(1, 1);
  EXPECT_LE(relative_error(first.features[0].sum(1), expected), 1e-9);
  const at::Tensor entropy = -(p * p.log()).sum(1), y = p.log().select(1, 1);
  EXPECT_LE(relative_error(first.gap.squeeze(1) * y.abs(), -entropy), 1e-9);
  const Attribution all = relevance(target::class_index(1), LrpOptions::Rest::spread);
  EXPECT_LE(all.gap.abs().max().item<double>(), 1e-9);
  // A difference of two is one of the logits.
  const Target difference = [](const at::Tensor& output, const at::Tensor&) {
    return output.select(1, 2) - output.select(1, 0);
  };
  at::Tensor of_logits = at::zeros_like(logits);
  of_logits.select(1, 2).copy_(logits.select(1, 2));
  of_logits.select(1, 0).copy_(-logits.select(1, 0));
  const at::Tensor both = relevance(difference, LrpOptions::Rest::lost).features[0].sum(1);
  EXPECT_LE((both - of_logits).abs().max().item<double>(), 1e-9);
}

TEST(LrpTest, LogSoftmaxLeavesWhatIsMaskedAlone) {
  const auto f = [](const at::Tensor& x) {
    const at::Tensor masked = x.masked_fill(at::arange(4).eq(0), -INFINITY);
    return at::log_softmax(masked, 2).slice(2, 1).sum({1, 2});
  };
  const Attribution result = relevance_of(f, {.rest = LrpOptions::Rest::spread});
  EXPECT_TRUE(result.features[0].isfinite().all().item<bool>());
  EXPECT_LE(result.gap.abs().max().item<double>(), 1e-3);
}

// A block as BERT's, of a native model with a site before and one within.
std::shared_ptr<const FrozenModel> block([[maybe_unused]] bool fused) {
  auto module = std::make_shared<torch::nn::IdentityImpl>();
  module->eval();
  const auto layer = [](const at::Tensor& x, uint64_t seed) {
    return at::linear(x, random_tensor({4, 4}, seed), random_tensor({4}, seed + 100));
  };
  const auto attend = [=](const at::Tensor& x, const Inputs&) {
    const at::Tensor q = layer(x, 1).unsqueeze(1), k = layer(x, 2).unsqueeze(1),
                     v = layer(x, 3).unsqueeze(1);
#if DIFFMASK_TORCH_AT_LEAST(2, 0)
    if (fused) return at::scaled_dot_product_attention(q, k, v).squeeze(1) + x;
#endif
    const at::Tensor scores = at::matmul(q, k.transpose(2, 3)) * 0.5;
    return at::matmul(at::softmax(scores, -1), v).squeeze(1) + x;
  };
  const auto rest = [=](const at::Tensor& x, const Inputs&) {
    return layer(at::gelu(layer(at::layer_norm(x, {4}), 4)), 5).sum({1, 2});
  };
  const auto same = [](const at::Tensor& x, const Inputs&) { return x; };
  return std::make_shared<StagedModel>(
      module, std::vector<Stage>{{"x", same}, {"attended", attend}, {"rest", rest}});
}

TEST(LrpTest, RelevanceIsConservedAtEverySite) {
  for (const bool fused : {false, true}) {
    const Lrp method(block(fused), kOneNumber, {.rest = LrpOptions::Rest::spread});
    const Attribution result = method.attribute(numbered_batch(random_tensor({2, 3, 4}, 6)));
    EXPECT_EQ(result.sites, (std::vector<std::string>{"x", "attended"}));
    EXPECT_LE(result.gap.abs().max().item<double>(), 1e-4);
    EXPECT_EQ(result.passes, 2);
  }
}

TEST(LrpTest, FusedAttentionIsItsParts) {
  const Batch batch = numbered_batch(random_tensor({2, 3, 4}, 6));
  const auto relevance = [&](bool fused, LrpOptions options) {
    return Lrp(block(fused), kOneNumber, std::move(options)).attribute(batch).features[0];
  };
  const LrpOptions exact{.epsilon = 1e-12};
  EXPECT_LE(relative_error(relevance(true, exact), relevance(false, exact)), 1e-9);
  // Attention weights that are not explained: the one operator, or the softmax within.
  const LrpOptions whole{.rules = {{.operators = "aten::scaled_dot*", .rule = lrp::stop()}}};
  const LrpOptions within{.rules = {{.operators = "aten::softmax", .rule = lrp::stop()}}};
  if (DIFFMASK_TORCH_AT_LEAST(2, 0)) {
    const at::Tensor stopped = relevance(true, whole);
    EXPECT_GT(relative_error(stopped, relevance(true, {})), 1e-3);
  }
  EXPECT_GT(relative_error(relevance(false, within), relevance(false, {})), 1e-3);
}

TEST(LrpTest, TheFirstEntryThatFitsCounts) {
  const Batch batch = numbered_batch(random_tensor({2, 3, 4}, 6));
  const auto relevance = [&](std::vector<LrpEntry> rules) {
    return Lrp(block(false), kOneNumber, {.rules = std::move(rules)}).attribute(batch).features;
  };
  const LrpEntry everywhere{.rule = lrp::gamma()}, early{.modules = "att*", .rule = lrp::flat()};
  const auto gamma = relevance({everywhere}), both = relevance({early, everywhere});
  EXPECT_TRUE(both[1].equal(gamma[1]));
  EXPECT_FALSE(both[0].equal(gamma[0]));
  EXPECT_TRUE(relevance({everywhere, early})[0].equal(gamma[0]));
}

TEST(LrpTest, AnOperatorWithoutARuleIsNamedWithItsPlace) {
  auto module = std::make_shared<torch::nn::IdentityImpl>();
  module->eval();
  const auto model = std::make_shared<StagedModel>(
      module, std::vector<Stage>{{"x", [](const at::Tensor& x, const Inputs&) { return x; }},
                                 {"products", [](const at::Tensor& x,
                                                 const Inputs&) { return at::cumprod(x, 1); }},
                                 {"sum", [](const at::Tensor& x, const Inputs&) {
                                    return x.sum({1, 2});
                                  }}});
  const Batch batch = numbered_batch(random_tensor({2, 3, 4}, 6));
  const auto attribute = [&](LrpOptions options) {
    return [=] { Lrp(model, kOneNumber, options).attribute(batch); };
  };
  expect_refused<Error>({{"no rule", attribute({}), "no rule for aten::cumprod in 'products'"}});
  EXPECT_NO_THROW(
      attribute({.rules = {{.operators = "aten::cumprod", .rule = lrp::identity()}}})());
}

TEST(LrpTest, RefusesBadInput) {
  const auto model = model_of([](const at::Tensor& x) { return x.sum(1); });
  const Batch batch = numbered_batch(random_tensor({2, 3, 4}, 6));
  const auto with = [&](LrpEntry entry) { return [=] { Lrp(model, {}, {.rules = {entry}}); }; };
  const auto constant = model_of([](const at::Tensor& x) { return at::ones({x.size(0), 2}); });
  expect_refused({
      {"epsilon", with({.rule = lrp::epsilon(0)}), "epsilon has to be > 0"},
      {"gamma", with({.rule = lrp::gamma(-1)}), "gamma has to be >= 0"},
      {"beta", with({.rule = lrp::alpha_beta(-1)}), "beta has to be >= 0"},
      {"box", with({.rule = lrp::z_box({}, {})}), "low and high has to be defined"},
      {"box", with({.rule = lrp::z_box(at::tensor(1.0), at::tensor(0.0))}),
       "low has to be <= high"},
      {"identity of what", with({.rule = lrp::identity()}), "operators has to be named"},
      {"target", [&] { Lrp(model, {.target = target::class_index(4)}).attribute(batch); },
       "in 0..3, the output's classes"},
      {"independent", [&] { Lrp(constant).attribute(batch); },
       "site has to be one that the output depends on"},
  });
}

// Zennit's rules, on the network that tests/reference/rules.py made.
TEST(LrpTest, AgreesWithZennit) {
  SKIP_WITHOUT_REFERENCE();
  const Safetensors truth = load_safetensors(reference_file("vgg.safetensors"));
  const auto model = load_script(reference_file("vgg.ts"), {.module_inputs = true});
  const std::string site = "features.0:input";
  const LrpRule box = lrp::z_box(at::tensor(-3.0f), at::tensor(3.0f));
  const std::map<std::string, std::vector<LrpEntry>> composites = {
      {"epsilon", {}},
      {"gamma", {{.rule = lrp::gamma(0.25)}}},
      {"alpha_beta", {{.rule = lrp::alpha_beta(1)}}},
      {"z_box", {{.modules = "features.0", .rule = box}}}};
  for (const auto& [name, rules] : composites) {
    SCOPED_TRACE(name);
    const Lrp method(model, {.sites = {site}, .positions = {{Positions::Layout::image}}},
                     {.rules = rules});
    const Attribution result = method.attribute(numbered_batch(truth.at("input0"), 16 * 16));
    EXPECT_LE(relative_error(result.features[0], truth.at("lrp/" + name)), 1e-4);
  }
}

// AttnLRP's rules on BERT, traced and exported, with the rest spread: nothing is lost.
TEST(LrpTest, ConservesRelevanceInBert) {
  SKIP_WITHOUT_REFERENCE();
  const Safetensors truth = load_safetensors(reference_file("bert.safetensors"));
  std::vector<std::string> formats = {"bert.ts"};
  if (DIFFMASK_TORCH_AT_LEAST(2, 0)) formats.push_back("bert.pt2");
  for (const std::string& format : formats) {
    SCOPED_TRACE(format);
    const auto model = load_program(reference_file(format));
    std::vector<std::string> sites = model->select("bert.encoder.layer.?");
    sites.insert(sites.begin(), "bert.embeddings");
    const Lrp method(model, {.sites = sites}, {.rest = LrpOptions::Rest::spread});
    Batch batch = numbered_batch(truth.at("input0"));
    batch.inputs.push_back(truth.at("input1"));
    const Attribution result = method.attribute(batch);
    EXPECT_LE(result.gap.abs().max().item<double>(), 0.01) << result.gap;
  }
}

}  // namespace
}  // namespace diffmask::lrp_test
