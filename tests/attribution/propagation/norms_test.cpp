// What divides by a spread, from references that are nearly constant; empty rows, half precision,
// complex numbers, linear layers in parts.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "diffmask/core/libtorch.hpp"
#include "tests/attribution/rule_models.hpp"
#include "tests/bad_input.hpp"

namespace diffmask::norms_test {
namespace {

using Function = std::function<at::Tensor(const at::Tensor&)>;

const AttributionOptions kOneNumber{.target = target::scalar};

at::Tensor weights(at::IntArrayRef sizes, uint64_t seed) {
  return random_tensor(sizes, seed).to(at::kFloat);
}

at::Tensor layer(const at::Tensor& x, int64_t width, uint64_t seed) {
  const at::Tensor w = weights({width, x.size(-1)}, seed) / std::sqrt(x.size(-1));
  return at::linear(x, w, 0.1 * weights({width}, seed + 1000));
}

struct Norm {
  std::string name;
  Function fused, apart;
};

at::Tensor normalised(const at::Tensor& x, at::IntArrayRef dims, double eps, bool centred) {
  const at::Tensor c = centred ? x - x.mean(dims, true) : x;
  return c * ((c * c).mean(dims, true) + eps).rsqrt();
}

// Of x (B, 4, 6), w and b of the channels or of the last dimension.
std::vector<Norm> norms() {
  const at::Tensor w = random_tensor({4, 1}, 3), b = random_tensor({4, 1}, 4),
                   v = random_tensor({6}, 5);
  std::vector<Norm> all = {
      {"layer", [=](const at::Tensor& x) { return at::layer_norm(x, {6}, v, v, 1e-5); },
       [=](const at::Tensor& x) { return normalised(x, {2}, 1e-5, true) * v + v; }},
      {"group",
       [=](const at::Tensor& x) { return at::group_norm(x, 2, w.view(4), b.view(4), 1e-5); },
       [=](const at::Tensor& x) {
         const at::Tensor groups = x.reshape({x.size(0), 2, 12});
         return normalised(groups, {2}, 1e-5, true).reshape({x.size(0), 4, 6}) * w + b;
       }},
      {"instance",
       [=](const at::Tensor& x) {
         return at::instance_norm(x, w.view(4), b.view(4), {}, {}, true, 0.1, 1e-5, false);
       },
       [=](const at::Tensor& x) { return normalised(x, {2}, 1e-5, true) * w + b; }},
  };
#if DIFFMASK_TORCH_AT_LEAST(2, 4)
  all.push_back({"RMS", [=](const at::Tensor& x) { return at::rms_norm(x, {6}, v, 1e-6); },
                 [=](const at::Tensor& x) { return normalised(x, {2}, 1e-6, false) * v; }});
#endif
  return all;
}

Batch example() { return numbered_batch(random_tensor({3, 4, 6}, 1)); }

TEST(NormsTest, AreTheirParts) {
  for (const Norm& norm : norms()) {
    SCOPED_TRACE(norm.name);
    const auto explain = [](const Function& f) {
      const auto net = [f](const at::Tensor& x) { return f(x).tanh().sum({1, 2}); };
      return DeepLift(model_of(net), kOneNumber).attribute(example());
    };
    const Attribution fused = explain(norm.fused), apart = explain(norm.apart);
    EXPECT_LE(fused.gap.abs().max().item<double>(), 1e-9);
    EXPECT_LE(relative_error(fused.features[0], apart.features[0]), 1e-8);
  }
}

TEST(NormsTest, AreTheIdentityInLrp) {
  for (const Norm& norm : norms()) {
    SCOPED_TRACE(norm.name);
    const auto net = [&](const at::Tensor& x) { return norm.fused(x).sum({1, 2}); };
    const at::Tensor x = example().inputs[0];
    const Attribution result = Lrp(model_of(net), kOneNumber).attribute(example());
    EXPECT_LE(relative_error(result.features[0], norm.fused(x)), 1e-4);
  }
  // x rsqrt(mean x^2) is a quotient: all goes to x.
  const auto rms = [](const at::Tensor& x) {
    return (x * (x.square().mean({2}, true) + 1e-6).rsqrt().expand_as(x)).sum({1, 2});
  };
  const at::Tensor x = example().inputs[0];
  EXPECT_LE(relative_error(Lrp(model_of(rms), kOneNumber).attribute(example()).features[0],
                           normalised(x, {2}, 1e-6, false)),
            1e-4);
}

TEST(NormsTest, DeviationsAddUp) {
  const std::vector<Function> functions = {
      [](const at::Tensor& x) { return at::std(x.relu(), {2}, true); },
      [](const at::Tensor& x) { return at::var(x.relu(), {2}, true); },
      [](const at::Tensor& x) { return std::get<0>(at::std_mean(x, {2}, true)); },
      [](const at::Tensor& x) { return x.norm(2, {2}); },
  };
  for (const bool zero : {true, false}) {
    for (size_t i = 0; i < functions.size(); ++i) {
      SCOPED_TRACE(i);
      const auto f = [&](const at::Tensor& x) { return functions[i](x).sum(1); };
      AttributionOptions options = kOneNumber;
      if (!zero) options.fill = fill::given({{"x", random_tensor({4, 6}, 2)}});
      EXPECT_LE(DeepLift(model_of(f), options).attribute(example()).gap.abs().max().item<double>(),
                1e-9);
      const LrpOptions exact{.epsilon = 1e-12};
      EXPECT_LE(
          Lrp(model_of(f), kOneNumber, exact).attribute(example()).gap.abs().max().item<double>(),
          1e-9);
    }
  }
}

Stage stage(std::string name, std::function<at::Tensor(const at::Tensor&)> f) {
  return {std::move(name), [f](const at::Tensor& x, const Inputs&) { return f(x); }};
}

std::shared_ptr<const FrozenModel> staged(std::vector<Stage> stages) {
  auto module = std::make_shared<torch::nn::IdentityImpl>();
  module->eval();
  return std::make_shared<StagedModel>(module, std::move(stages));
}

// Blocks of attention and feed-forward layers, the norms before or after them.
std::shared_ptr<const FrozenModel> transformer(bool pre_norm, double eps, bool rms) {
  const auto norm = [=](const at::Tensor& x, uint64_t seed) {
    const at::Tensor w = 1 + 0.1 * weights({x.size(-1)}, seed);
    if (rms) return x * (x.square().mean(-1, true) + eps).rsqrt() * w;
    return at::layer_norm(x, {x.size(-1)}, w, 0.1 * weights({x.size(-1)}, seed + 1), eps);
  };
  const auto attend = [](const at::Tensor& x, uint64_t seed) {
    const at::Tensor scores =
        at::matmul(layer(x, 16, seed), layer(x, 16, seed + 1).transpose(1, 2)) / 4;
    return layer(at::matmul(at::softmax(scores, 2), layer(x, 16, seed + 2)), 16, seed + 3);
  };
  const auto forward = [](const at::Tensor& x, uint64_t seed) {
    return layer(at::gelu(layer(x, 32, seed)), 16, seed + 1);
  };
  std::vector<Stage> stages = {stage("x", [](const at::Tensor& x) { return x; })};
  for (uint64_t i = 0; i < 6; ++i) {
    stages.push_back(stage(fmt::format("block{}", i), [=](const at::Tensor& x) {
      const uint64_t seed = 10 * i;
      if (pre_norm) {
        const at::Tensor h = x + attend(norm(x, seed), seed);
        return h + forward(norm(h, seed + 6), seed + 4);
      }
      const at::Tensor h = norm(x + attend(x, seed), seed);
      return norm(h + forward(h, seed + 4), seed + 6);
    }));
  }
  stages.push_back(stage(
      "head", [=](const at::Tensor& x) { return layer(norm(x, 77).mean(1), 3, 78).select(1, 0); }));
  return staged(std::move(stages));
}

std::shared_ptr<const FrozenModel> convolutions() {
  const auto block = [](const at::Tensor& x, uint64_t seed) {
    const at::Tensor y = at::conv2d(x, weights({8, x.size(1), 3, 3}, seed) / std::sqrt(9.0 * 8),
                                    0.1 * weights({8}, seed + 1), 1, 1);
    const at::Tensor n = at::layer_norm(y.permute({0, 2, 3, 1}), {8}).permute({0, 3, 1, 2});
    return at::silu(at::group_norm(n, 2));
  };
  std::vector<Stage> stages = {stage("x", [](const at::Tensor& x) { return x; })};
  for (uint64_t i = 0; i < 5; ++i) {
    stages.push_back(
        stage(fmt::format("block{}", i), [=](const at::Tensor& x) { return block(x, 10 * i); }));
  }
  stages.push_back(stage("head", [=](const at::Tensor& x) {
    return layer(x.mean({2, 3}), 3, 78).select(1, 0);
  }));
  return staged(std::move(stages));
}

// gap / (target(h) - target(b)), the largest over sites and rows.
double missed(const Attribution& result) {
  double worst = 0;
  for (size_t i = 0; i < result.sites.size(); ++i) {
    const at::Tensor sum = result.features[i].flatten(1).sum(1), gap = result.gap.select(1, i);
    worst = std::max(worst, (gap / (sum + gap)).abs().max().item<double>());
  }
  return worst;
}

TEST(NormsTest, ZeroReferencesAtInnerSitesAddUp) {
  for (const bool pre_norm : {true, false}) {
    for (const double eps : {1e-5, 1e-12}) {
      for (const bool rms : {false, true}) {
        SCOPED_TRACE(fmt::format("pre-norm {}, eps {}, RMS {}", pre_norm, eps, rms));
        const auto model = transformer(pre_norm, eps, rms);
        const Batch batch = numbered_batch(weights({4, 5, 16}, 6));
        EXPECT_LE(missed(DeepLift(model, kOneNumber).attribute(batch)), 1e-3);
      }
    }
  }
  const auto model = convolutions();
  AttributionOptions options = kOneNumber;
  options.positions = {{Positions::Layout::image}};
  const Batch batch = numbered_batch(weights({4, 2, 8, 8}, 6), 64);
  EXPECT_LE(missed(DeepLift(model, options).attribute(batch)), 1e-3);
}

// One row's padding sees nothing: the rest is as without it.
TEST(NormsTest, RowsThatSeeNothingAreZero) {
  const at::Tensor padded = weights({1, 5, 16}, 6), alone = padded.slice(1, 2);
  const auto net = [](bool safe) {
    return [safe](const at::Tensor& x) {
      const at::Tensor seen = at::ones({x.size(1), x.size(1)}, at::kBool).tril();
      const at::Tensor kept = at::arange(x.size(1)) >= x.size(1) - 3;
      const at::Tensor scores = at::matmul(layer(x, 16, 1), layer(x, 16, 2).transpose(1, 2))
                                    .masked_fill(seen.logical_and(kept).logical_not(), -INFINITY);
      at::Tensor w = at::softmax(scores, 2);
      if (safe) w = w.nan_to_num(0);
      return layer(at::matmul(w, layer(x, 16, 3)).tanh(), 16, 4).select(1, -1).sum(1);
    };
  };
  for (const bool safe : {true, false}) {
    SCOPED_TRACE(safe);
    const auto model = model_of(net(safe));
    const auto compare = [&](const Attributor& method) {
      const at::Tensor with = method.attribute(numbered_batch(padded)).features[0],
                       without = method.attribute(numbered_batch(alone)).features[0];
      EXPECT_LE(relative_error(with.slice(1, 2), without), 1e-5);
      EXPECT_TRUE(with.slice(1, 0, 2).eq(0).all().item<bool>());
    };
    compare(DeepLift(model, kOneNumber));
    compare(Lrp(model, kOneNumber));
  }
}

TEST(NormsTest, HalfPrecisionIsComputedInFloat) {
  const at::Tensor x = weights({3, 4, 6}, 1).to(at::kBFloat16);
  const auto net = [](const at::Tensor& state) {
    const at::Tensor w = weights({6, 6}, 2).to(state.scalar_type());
    return at::linear(at::gelu(at::linear(state, w)), w).sum({1, 2});
  };
  const Attribution half = DeepLift(model_of(net), kOneNumber).attribute(numbered_batch(x));
  EXPECT_LE(half.gap.abs().max().item<double>(), 1e-4);
  EXPECT_EQ(half.features[0].scalar_type(), at::kFloat);
  const Attribution relevance = Lrp(model_of(net), kOneNumber).attribute(numbered_batch(x));
  EXPECT_LE(relevance.gap.abs().max().item<double>(), 1e-3);
}

TEST(NormsTest, FourierTransformsAreLinear) {
  const at::Tensor filter = random_tensor({4}, 5), x = example().inputs[0];
  const auto by_fft = [&](const at::Tensor& state) {
    return at::fft_irfft(at::fft_rfft(state, {}, 2) * filter, 6, 2);
  };
  const auto net = [&](const at::Tensor& state) {
    return by_fft(state).tanh().matmul(random_tensor({6}, 6)).sum(1);
  };
  const Attribution scores = DeepLift(model_of(net), kOneNumber).attribute(example());
  EXPECT_LE(scores.gap.abs().max().item<double>(), 1e-9);
  const at::Tensor h = by_fft(x);
  EXPECT_LE(relative_error(scores.features[0], by_fft(random_tensor({6}, 6) * h.tanh() / h) * x),
            1e-8);
  const Attribution relevance =
      Lrp(model_of(net), kOneNumber, {.epsilon = 1e-12}).attribute(example());
  EXPECT_LE(relevance.gap.abs().max().item<double>(), 1e-8);
  const auto magnitude = [&](const at::Tensor& state) {
    return at::fft_rfft(state, {}, 2).abs().sum({1, 2});
  };
  const Attribution sizes = DeepLift(model_of(magnitude), kOneNumber).attribute(example());
  EXPECT_LE(sizes.gap.abs().max().item<double>(), 1e-9);
}

TEST(NormsTest, LinearLayersInPartsAreTheWholeInLrp) {
  const at::Tensor w = random_tensor({5, 6}, 2), b = random_tensor({5}, 3);
  const std::vector<Function> ways = {
      [=](const at::Tensor& x) { return at::linear(x, w, b); },
      [=](const at::Tensor& x) { return at::matmul(x, w.t()) + b; },
      [=](const at::Tensor& x) { return b + at::matmul(x, w.t()); },
      [=](const at::Tensor& x) {
        return at::mm(x.reshape({-1, 6}), w.t()).view({x.size(0), x.size(1), 5}) + b;
      },
      [=](const at::Tensor& x) {
        return at::addmm(b, x.reshape({-1, 6}), w.t()).view({x.size(0), x.size(1), 5});
      },
      [=](const at::Tensor& x) {
        const at::Tensor y = at::matmul(w, x.transpose(1, 2));
        return y.permute({0, 2, 1}).sub(b, -1);
      },
  };
  const std::vector<LrpRule> rules = {lrp::epsilon(), lrp::gamma(), lrp::alpha_beta(), lrp::flat()};
  for (const auto rest : {LrpOptions::Rest::lost, LrpOptions::Rest::spread}) {
    for (const LrpRule& rule : rules) {
      const auto relevance = [&](const Function& way) {
        const auto net = [&](const at::Tensor& x) { return way(x).tanh().sum({1, 2}); };
        const LrpOptions options{.rules = {{.rule = rule}}, .rest = rest};
        return Lrp(model_of(net), kOneNumber, options).attribute(example()).features[0];
      };
      const at::Tensor expected = relevance(ways[0]);
      for (size_t i = 1; i < ways.size(); ++i) {
        SCOPED_TRACE(i);
        EXPECT_LE(relative_error(relevance(ways[i]), expected), 1e-9);
      }
    }
  }
}

TEST(NormsTest, QuantizedOperatorsAreNamed) {
  const auto net = [](const at::Tensor& x) {
    const at::Tensor q = at::quantize_per_tensor(x.to(at::kFloat), 0.1, 0, at::kQInt8);
    return at::dequantize(q).sum({1, 2});
  };
  expect_refused<Error>({
      {"DeepLIFT", [&] { DeepLift(model_of(net), kOneNumber).attribute(example()); },
       "DeepLIFT has no rule for aten::dequantize"},
      {"LRP", [&] { Lrp(model_of(net), kOneNumber).attribute(example()); },
       "LRP has no rule for aten::dequantize"},
  });
}

}  // namespace
}  // namespace diffmask::norms_test
