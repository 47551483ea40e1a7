#include "diffmask/probe/mlp.hpp"

#include <gtest/gtest.h>

#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"
#include "tests/finite_difference.hpp"

namespace diffmask {
namespace {

at::Tensor features(int64_t size) { return at::randn({2, 3, size}, make_generator(1)); }

// The header's formula, from the parameters by name.
at::Tensor by_hand(const MlpProbe& probe, at::Tensor x, const MlpProbeOptions& options) {
  const auto parameters = probe.named_parameters();
  const auto linear = [&](const std::string& name, const at::Tensor& x) {
    const at::Tensor v = parameters[name + ".direction"], g = parameters[name + ".norm"];
    const at::Tensor weight = g * v / v.square().sum(1, /*keepdim=*/true).sqrt();
    return at::matmul(x, weight.t()) + parameters[name + ".bias"];
  };
  if (options.layer_norm) {
    x = x - x.mean(-1, /*keepdim=*/true);
    x = x / (x.square().mean(-1, /*keepdim=*/true) + 1e-5).sqrt();
  }
  const at::Tensor a = linear("out", at::tanh(linear("hidden", x))).squeeze(-1);
  return options.bound > 0 ? options.bound * at::tanh(a) + parameters["bias"] : a;
}

const std::vector<std::pair<std::string, MlpProbeOptions>>& option_sets() {
  static const std::vector<std::pair<std::string, MlpProbeOptions>> sets = {
      {"raw", {.hidden_size = 4}},
      {"bounded", {.hidden_size = 4, .bound = 10}},
      {"normalised", {.hidden_size = 4, .layer_norm = true}},
  };
  return sets;
}

TEST(WeightNormLinearTest, BeginsAsTheLinearMapOfItsDirections) {
  const WeightNormLinear linear(5, 3, make_generator(2));
  const at::Tensor x = at::randn({7, 5}, make_generator(3));
  const auto parameters = linear.named_parameters();
  const at::Tensor expected = at::linear(x, parameters["direction"], parameters["bias"]);
  EXPECT_TRUE(linear.forward(x).allclose(expected, 1e-5, 1e-6));
  EXPECT_EQ(parameters["norm"].sizes(), at::IntArrayRef({3, 1}));
}

TEST(MlpProbeTest, IsTheFormula) {
  for (const auto& [name, options] : option_sets()) {
    SCOPED_TRACE(name);
    MlpProbe probe(6, options, make_generator(0));
    {  // Norms away from their start, where they are without effect.
      at::NoGradGuard no_grad;
      for (auto& item : probe.named_parameters()) {
        if (item.key().find("norm") != std::string::npos) item.value().mul_(1.5);
      }
    }
    const at::Tensor x = features(6), logits = probe.logits({x});
    EXPECT_EQ(logits.sizes(), at::IntArrayRef({2, 3}));
    EXPECT_TRUE(logits.allclose(by_hand(probe, x, options), 1e-4, 1e-5));
  }
}

TEST(MlpProbeTest, BeginsNearItsInitialBias) {
  for (const auto& [name, options] : option_sets()) {
    SCOPED_TRACE(name);
    MlpProbeOptions low = options;
    low.initial_bias = -3;
    MlpProbe probe(6, options, make_generator(0)), same_at_minus_3(6, low, make_generator(0));
    const at::Tensor x = features(6);
    const at::Tensor difference = probe.logits({x}) - same_at_minus_3.logits({x});
    EXPECT_TRUE(difference.allclose(at::full({2, 3}, 8.0), 0, 1e-5));
    if (options.bound == 0) EXPECT_LT((probe.logits({x}) - 5).abs().max().item<float>(), 1.0);
  }
}

TEST(MlpProbeTest, BoundHoldsWhateverTheWeights) {
  MlpProbe probe(6, {.bound = 10}, make_generator(0));
  at::NoGradGuard no_grad;
  for (auto& item : probe.named_parameters()) {
    if (item.key() != "bias") item.value().mul_(1000);
  }
  const at::Tensor away = probe.logits({features(6) * 1000}) - 5;
  EXPECT_LE(away.abs().max().item<float>(), 10.0001);
  EXPECT_GT(away.abs().max().item<float>(), 9.9);
}

TEST(MlpProbeTest, LayerNormForgetsScaleAndOffset) {
  MlpProbe probe(6, {.layer_norm = true}, make_generator(0));
  const at::Tensor x = features(6) * 100;  // so that the norm's own 1e-5 does not show
  EXPECT_TRUE(probe.logits({x}).allclose(probe.logits({3 * x + 7}), 1e-4, 1e-4));
  EXPECT_FALSE(probe.logits({x}).allclose(probe.logits({x.flip(-1)}), 1e-3, 1e-3));
}

TEST(DropoutTest, LeavesOutItsShareAndKeepsTheMean) {
  const at::Tensor ones = at::ones({200, 100});
  const at::Tensor left = Dropout{0.25, make_generator(1)}(ones);
  EXPECT_NEAR(left.eq(0).to(at::kFloat).mean().item<float>(), 0.25, 0.015);  // 5 standard errors
  EXPECT_TRUE(at::logical_or(left.eq(0), left.sub(4.0 / 3).abs().lt(1e-6)).all().item<bool>());
  EXPECT_TRUE(left.equal(Dropout{0.25, make_generator(1)}(ones)));
  EXPECT_FALSE(left.equal(Dropout{0.25, make_generator(2)}(ones)));
  EXPECT_TRUE(Dropout{}(ones).equal(ones));
}

TEST(MlpProbeTest, DropoutIsOfTheNormalisedFeatures) {
  MlpProbe probe(6, {.layer_norm = true}, make_generator(0)), plain(6, {}, make_generator(0));
  const at::Tensor x = features(6),
                   dropped = Dropout{0.5, make_generator(1)}(at::layer_norm(x, {6}));
  EXPECT_TRUE(probe.logits({x}, {0.5, make_generator(1)}).allclose(plain.logits({dropped})));
  EXPECT_FALSE(probe.logits({x}, {0.5, make_generator(1)}).allclose(probe.logits({x})));
}

TEST(MlpProbeTest, HiddenSizeIsAQuarterAndAtLeast32) {
  for (const auto& [size, hidden] : {std::pair(6, 32), std::pair(128, 32), std::pair(400, 100)}) {
    const MlpProbe probe(size, {}, make_generator(0));
    EXPECT_EQ(probe.named_parameters()["hidden.direction"].sizes(),
              at::IntArrayRef({hidden, size}));
  }
}

TEST(MlpProbeTest, SameSeedSameBits) {
  const at::Tensor x = features(6);
  MlpProbe probe(6, {}, make_generator(0)), same(6, {}, make_generator(0));
  MlpProbe other(6, {}, make_generator(1));
  EXPECT_TRUE(probe.logits({x}).equal(same.logits({x})));
  EXPECT_FALSE(probe.logits({x}).equal(other.logits({x})));
}

TEST(MlpProbeTest, GradientsAgreeWithFiniteDifferences) {
  for (const auto& [name, options] : option_sets()) {
    MlpProbe probe(5, options, make_generator(0));
    probe.to(at::kDouble);
    const at::Tensor x = features(5).to(at::kDouble);
    const auto f = [&](const at::Tensor& x) { return probe.logits({x}).square().sum(); };
    {
      SCOPED_TRACE(name + ", features");
      expect_gradient(f, x);
    }
    for (const auto& item : probe.named_parameters()) {
      SCOPED_TRACE(name + ", " + item.key());
      expect_gradient_at([&] { return f(x); }, item.value());
    }
  }
}

TEST(MlpProbeTest, RefusesBadOptions) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto make = [](int64_t features, MlpProbeOptions options) {
    return [=] { MlpProbe probe(features, options, make_generator(0)); };
  };
  expect_refused({
      {"no features", make(0, {}), "features has to be >= 1, but got 0"},
      {"hidden size -1", make(4, {.hidden_size = -1}), "hidden_size has to be >= 0"},
      {"bias NaN", make(4, {.initial_bias = kNan}), "initial_bias has to be finite"},
      {"bound -1", make(4, {.bound = -1}), "bound has to be >= 0"},
      {"bound NaN", make(4, {.bound = kNan}), "bound"},
  });
}

}  // namespace
}  // namespace diffmask
