// Activations that are written with conditions, and operators without gradients.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "tests/attribution/rule_models.hpp"
#include "tests/bad_input.hpp"

namespace diffmask::conditions_test {
namespace {

using Function = std::function<at::Tensor(const at::Tensor&)>;

const AttributionOptions kZero{.target = target::scalar};

Batch example() { return numbered_batch(random_tensor({4, 3, 5}, 1)); }

at::Tensor first(const at::Tensor& x) {
  return at::linear(x, random_tensor({6, 5}, 2), random_tensor({6}, 3));
}

at::Tensor second() { return random_tensor({6}, 4); }

struct Activation {
  std::string name;
  Function f;
};

std::vector<Activation> activations() {
  return {
      {"x (x > 0)", [](const at::Tensor& h) { return h * (h > 0).to(h.scalar_type()); }},
      {"bool factor", [](const at::Tensor& h) { return at::sigmoid(h) * h.ge(0.2); }},
      {"masked_fill", [](const at::Tensor& h) { return h.masked_fill(h < 0, 0.0); }},
      {"in place",
       [](const at::Tensor& h) {
         at::Tensor y = h.clone();
         y.index_put_({y < 0}, at::scalar_tensor(0.0, y.options()));
         return y;
       }},
      {"where", [](const at::Tensor& h) { return at::where(h > 0, h, 0.1 * h); }},
      {"two conditions",
       [](const at::Tensor& h) {
         return at::where((h > -0.5).logical_and(h.le(0.7)), h.square(), h.sin());
       }},
      {"a side that has no value",
       [](const at::Tensor& h) { return at::where(h > 0, h.log(), at::zeros_like(h)); }},
      {"sign", [](const at::Tensor& h) { return h.sign() * h.abs().sqrt(); }},
      {"floor", [](const at::Tensor& h) { return h - h.floor(); }},
      {"moved conditions",
       [](const at::Tensor& h) {
         return (h.transpose(1, 2) * (h > 0).transpose(1, 2).to(h.scalar_type())).transpose(1, 2);
       }},
      {"selected elements",
       [](const at::Tensor& h) {
         at::Tensor y = h.clone();
         const at::Tensor below = y < 0;
         y.index_put_({below}, 0.1 * y.index({below}));
         return y;
       }},
      {"minimum", [](const at::Tensor& h) { return at::minimum(h, at::full_like(h, 0.3)); }},
  };
}

TEST(ConditionsTest, AreRescaledAsPartOfTheActivation) {
  const at::Tensor x = example().inputs[0], h = first(x), h0 = first(at::zeros_like(x));
  for (const Activation& activation : activations()) {
    SCOPED_TRACE(activation.name);
    const auto f = [&](const at::Tensor& state) {
      return activation.f(first(state)).matmul(second()).sum(1);
    };
    const at::Tensor m = second() * (activation.f(h) - activation.f(h0)) / (h - h0);
    const Attribution result = DeepLift(model_of(f), kZero).attribute(example());
    EXPECT_LE(relative_error(result.features[0], at::matmul(m, random_tensor({6, 5}, 2)) * x),
              1e-9);
    EXPECT_LE(result.gap.abs().max().item<double>(), 1e-9);
  }
}

// Conditions on one state and values of others: each has its share, and nothing is left.
TEST(ConditionsTest, OfAnotherStateAddUp) {
  const auto other = [](const at::Tensor& x) { return at::linear(x, random_tensor({6, 5}, 7)); };
  const std::vector<Function> functions = {
      [=](const at::Tensor& x) { return at::where(first(x) > other(x), first(x), other(x).exp()); },
      [=](const at::Tensor& x) { return first(x) * (other(x) > 0.3); },
      [=](const at::Tensor& x) { return at::matmul((other(x) > 0).to(at::kDouble), second()); },
      [=](const at::Tensor& x) { return first(x).masked_fill(other(x).sum(2, true) > 0, 2.5); },
      [=](const at::Tensor& x) { return first(x).clamp(-other(x).abs(), other(x).abs()); },
      [=](const at::Tensor& x) { return first(x) * x.gt(0).to(at::kDouble).mean(2, true); },
  };
  for (size_t i = 0; i < functions.size(); ++i) {
    SCOPED_TRACE(i);
    const auto f = [&](const at::Tensor& x) { return functions[i](x).flatten(1).sum(1); };
    const Attribution result = DeepLift(model_of(f), kZero).attribute(example());
    EXPECT_LE(result.gap.abs().max().item<double>(), 1e-9);
  }
}

// LRP takes conditions as they are: relevance goes to what they let through.
TEST(ConditionsTest, AreConstantInLrp) {
  const Activation relu{"relu", [](const at::Tensor& h) { return at::relu(h); }};
  const auto relevance = [](const Activation& activation) {
    const auto f = [&](const at::Tensor& x) {
      return activation.f(first(x)).matmul(second()).sum(1);
    };
    return Lrp(model_of(f), kZero).attribute(example()).features[0];
  };
  for (const size_t i : {0, 2, 3}) {
    SCOPED_TRACE(activations()[i].name);
    EXPECT_LE(relative_error(relevance(activations()[i]), relevance(relu)), 1e-9);
  }
}

TEST(ConditionsTest, SelectedElementsThatAreSummedAreRefused) {
  const auto f = [](const at::Tensor& x) { return x.index({x > 0}).tanh().sum() * x.sum({1, 2}); };
  expect_refused<Error>({{"sizes", [&] { DeepLift(model_of(f), kZero).attribute(example()); },
                          "of which tensors have other shapes for the reference"}});
}

// What is written into a part of a tensor moves there.
TEST(ConditionsTest, WritesHaveLrpRules) {
  const std::vector<Function> functions = {
      [](const at::Tensor& x) {
        at::Tensor y = at::zeros_like(x);
        y.select(1, 0).copy_(x.select(1, 2));
        y.slice(1, 1).copy_(2 * x.slice(1, 0, 2));
        return y;
      },
      [](const at::Tensor& x) {
        const at::Tensor order = (at::arange(3) + 2).remainder(3).view({1, 3, 1}).expand_as(x);
        return at::zeros_like(x).scatter(1, order, x);
      },
      [](const at::Tensor& x) { return at::slice_scatter(x, 3 * x.slice(1, 1, 2), 1, 0, 1); },
      [](const at::Tensor& x) {
        return at::zeros_like(x).index_put({at::arange(4).gt(1).to(at::kLong)}, x,
                                           /*accumulate=*/true);
      },
  };
  for (size_t i = 0; i < functions.size(); ++i) {
    SCOPED_TRACE(i);
    const auto f = [&](const at::Tensor& x) {
      return functions[i](x).cumsum(1).matmul(random_tensor({5}, 8)).select(1, 1);
    };
    at::Tensor x = example().inputs[0].clone().requires_grad_(true);
    f(x).sum().backward();
    const Lrp method(model_of(f), kZero, {.epsilon = 1e-12});
    EXPECT_LE(relative_error(method.attribute(example()).features[0], (x * x.grad()).detach()),
              1e-9);
  }
}

// Infinite logits of classes that are not asked for.
TEST(ConditionsTest, InfiniteLogitsLeaveGapsFinite) {
  const auto f = [](const at::Tensor& x) {
    return first(x).sum(1).masked_fill(at::arange(6).eq(0), -INFINITY);
  };
  const AttributionOptions second_class{.target = target::class_index(1)};
  const Attribution relevance =
      Lrp(model_of(f), second_class, {.rest = LrpOptions::Rest::spread}).attribute(example());
  EXPECT_LE(relevance.gap.abs().max().item<double>(), 1e-4);
  const Attribution scores = DeepLift(model_of(f), second_class).attribute(example());
  EXPECT_LE(scores.gap.abs().max().item<double>(), 1e-9);
}

// The slope of sqrt at 0, where nothing changes.
TEST(ConditionsTest, WhatIsNotFiniteIsNamed) {
  const auto f = [](const at::Tensor& x) { return (x.abs().sqrt() + x).sum({1, 2}); };
  const Batch zero = numbered_batch(at::zeros({2, 3, 5}, at::kDouble));
  expect_refused<Error>({{"DeepLIFT", [&] { DeepLift(model_of(f), kZero).attribute(zero); },
                          "DeepLIFT: the multipliers are not finite at aten::sqrt"}});
}

}  // namespace
}  // namespace diffmask::conditions_test
