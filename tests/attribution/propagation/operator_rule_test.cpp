#include "diffmask/attribution/propagation/operator_rule.hpp"

#include <ATen/core/ivalue.h>
#include <gtest/gtest.h>

#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "tests/attribution/rule_models.hpp"
#include "tests/bad_input.hpp"

namespace diffmask::operator_rule_test {
namespace {

using Tensors = std::vector<at::Tensor>;

const AttributionOptions kOneNumber{.target = target::scalar};

Batch example() { return numbered_batch(random_tensor({2, 3, 4}, 6)); }

at::Tensor weights() { return random_tensor({5, 4}, 1); }

at::Tensor running_product(const at::Tensor& x) { return at::cumprod(x, 1).sum({1, 2}); }

// One layer, its rectifier in place, and a sum.
at::Tensor rectified(const at::Tensor& x) {
  at::Tensor h = at::linear(x, weights());
  return h.relu_().sum({1, 2});
}

Attribution relevance(const std::function<at::Tensor(const at::Tensor&)>& f,
                      std::vector<LrpEntry> rules) {
  const LrpOptions options{.rules = std::move(rules), .epsilon = 1e-12};
  return Lrp(model_of(f), kOneNumber, options).attribute(example());
}

void expect_conserved(const Attribution& result) {
  EXPECT_LE(result.gap.abs().max().item<double>(), 1e-9);
}

// x_1 .. x_k have the same part in their product.
Tensors alike(const OperatorCall& call) {
  const at::Tensor& y = call.outputs[0];
  const at::Tensor factors = at::arange(1, y.size(1) + 1, y.options()).view({-1, 1});
  return {(call.given[0] / factors).flip(1).cumsum(1).flip(1)};
}

TEST(OperatorRuleTest, GivesLrpARuleThatItLacks) {
  const at::Tensor x = example().inputs[0];
  EXPECT_THROW(relevance(running_product, {}), Error);
  const Attribution result =
      relevance(running_product, {{.operators = "aten::cump*", .rule = lrp::custom(alike)}});
  expect_conserved(result);
  const at::Tensor y = at::cumprod(x, 1);
  at::Tensor expected = at::zeros_like(x);
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t i = 0; i <= k; ++i) expected.select(1, i) += y.select(1, k) / (k + 1);
  }
  EXPECT_LE(relative_error(result.features[0], expected), 1e-9);
}

// w^2 in place of x w.
Tensors squared_weights(const OperatorCall& call) {
  const at::Tensor squares = call.arguments[1].toTensor().square();
  return {at::matmul(call.given[0] / squares.sum(1), squares)};
}

TEST(OperatorRuleTest, ComesBeforeLrpsOwn) {
  const LrpEntry by_name{.operators = "aten::linear", .rule = lrp::custom(squared_weights)};
  const LrpEntry by_weights{.rule = lrp::custom(squared_weights)};
  const at::Tensor squares = weights().square();
  const at::Tensor h = at::relu(at::linear(example().inputs[0], weights()));
  const at::Tensor expected = at::matmul(h / squares.sum(1), squares);
  for (const LrpEntry& entry : {by_name, by_weights}) {
    const Attribution result = relevance(rectified, {entry, {.rule = lrp::flat()}});
    expect_conserved(result);
    EXPECT_LE(relative_error(result.features[0], expected), 1e-9);
  }
  const Attribution usual = relevance(rectified, {});
  EXPECT_GT(relative_error(usual.features[0], expected), 1e-3);
  const Attribution elsewhere = relevance(
      rectified,
      {{.modules = "x", .operators = "aten::linear", .rule = lrp::custom(squared_weights)}});
  EXPECT_TRUE(elsewhere.features[0].equal(usual.features[0]));
}

TEST(OperatorRuleTest, SeesTheCall) {
  std::vector<std::string> names;
  const OperatorRule look = [&](const OperatorCall& call) {
    names.push_back(call.name);
    EXPECT_EQ(call.inputs.size(), 1u);
    EXPECT_TRUE(call.arguments[0].toTensor().is_same(call.inputs[0]));
    EXPECT_TRUE(call.reference_inputs.empty() && call.reference_outputs.empty());
    const Tensors moved = call.forward({call.inputs[0] + 1});
    const double steepest = (moved[0] - call.outputs[0]).abs().max().item<double>();
    EXPECT_GT(steepest, 0);
    EXPECT_LE(steepest, call.name == "aten::relu" ? 1 + 1e-12 : INFINITY);
    return call.gradients(call.given);
  };
  relevance(rectified, {{.operators = "**", .rule = lrp::custom(look)}});
  EXPECT_EQ(names, (std::vector<std::string>{"aten::sum", "aten::relu", "aten::linear"}));
}

// The reference is neither zero nor the same for all positions.
AttributionOptions to_reference() {
  return {.target = target::scalar, .fill = fill::given({{"x", random_tensor({3, 4}, 2)}})};
}

Attribution multiplied(const std::function<at::Tensor(const at::Tensor&)>& f,
                       DeepLiftOptions options) {
  const AttributionOptions common = to_reference();
  const Attribution result = DeepLift(model_of(f), common, std::move(options)).attribute(example());
  const at::Tensor x = example().inputs[0], reference = common.fill("x", x).expand_as(x);
  EXPECT_LE(relative_error(result.features[0].sum({1, 2}), f(x) - f(reference)), 1e-9);
  return result;
}

// One factor after another goes from its reference to its value.
Tensors telescoped(const OperatorCall& call) {
  const at::Tensor &x = call.inputs[0], &x0 = call.reference_inputs[0];
  at::Tensor m = at::zeros_like(x);
  for (int64_t i = 0; i < x.size(1); ++i) {
    const at::Tensor before = x0.slice(1, 0, i).prod(1);
    for (int64_t k = i; k < x.size(1); ++k) {
      const at::Tensor after = x.slice(1, i + 1, k + 1).prod(1);
      m.select(1, i) += call.given[0].select(1, k) * before * after;
    }
  }
  return {m};
}

TEST(OperatorRuleTest, GivesDeepLiftAnExactRule) {
  multiplied(running_product, {.rules = {{"aten::cumprod", telescoped}}});
}

TEST(OperatorRuleTest, ComesBeforeDeepLiftsOwn) {
  const auto product = [](const at::Tensor& x) { return (at::tanh(x) * x.roll(1, 1)).sum({1, 2}); };
  // dy = dx1 x2 + x1_0 dx2, where DeepLIFT's own takes the means of both.
  const OperatorRule in_turn = [](const OperatorCall& call) -> Tensors {
    return {call.given[0] * call.inputs[1], call.given[0] * call.reference_inputs[0]};
  };
  const Attribution usual = multiplied(product, {});
  const Attribution turned = multiplied(product, {.rules = {{"aten::mul", in_turn}}});
  EXPECT_GT(relative_error(turned.features[0], usual.features[0]), 1e-3);
  // Rescale, written out.
  const OperatorRule rescale = [](const OperatorCall& call) -> Tensors {
    const at::Tensor dy = call.outputs[0] - call.reference_outputs[0];
    return {call.given[0] * dy / (call.inputs[0] - call.reference_inputs[0])};
  };
  const Attribution same = multiplied(product, {.rules = {{"aten::tanh", rescale, "f"}}});
  EXPECT_LE(relative_error(same.features[0], usual.features[0]), 1e-9);
}

// RevealCancel looks through a rectifier at the linear map below, unless that has a rule.
TEST(OperatorRuleTest, IsNotPassedOverByRevealCancel) {
  using Activation = DeepLiftOptions::Activation;
  const OperatorRule gradient = [](const OperatorCall& call) { return call.gradients(call.given); };
  const DeepLiftOptions both{Activation::reveal_cancel, {}, {{"aten::linear", gradient}}};
  const Attribution rescale = multiplied(rectified, {Activation::rescale}),
                    revealed = multiplied(rectified, {Activation::reveal_cancel}),
                    with_rule = multiplied(rectified, both);
  EXPECT_GT(relative_error(revealed.features[0], rescale.features[0]), 1e-3);
  EXPECT_LE(relative_error(with_rule.features[0], rescale.features[0]), 1e-12);
}

TEST(OperatorRuleTest, RefusesWhatIsNoShare) {
  const auto lrp = [](LrpEntry entry) { return [=] { relevance(running_product, {entry}); }; };
  const auto gives = [](std::function<Tensors(const at::Tensor& x)> f) -> OperatorRule {
    return [f](const OperatorCall& call) { return f(call.inputs[0]); };
  };
  const auto deeplift = [](DeepLiftEntry entry) {
    return [=] {
      DeepLift(model_of(running_product), kOneNumber, {.rules = {entry}}).attribute(example());
    };
  };
  const std::string pattern = "aten::cumpr*", what = "gives aten::cumprod";
  const OperatorRule none = gives([](const at::Tensor&) { return Tensors{}; }),
                     two = gives([](const at::Tensor&x) {
                       return Tensors{x, x};
                     }),
                     row = gives([](const at::Tensor&x) { return Tensors{x[0]}; }),
                     single = gives([](const at::Tensor&x) { return Tensors{x.to(at::kFloat)}; }),
                     undefined = gives([](const at::Tensor&) { return Tensors{at::Tensor()}; });
  for (const auto& [name, rule, message] :
       std::vector<std::tuple<std::string, OperatorRule, std::string>>{
           {"none", none, " has to be one tensor for each explained input (1), but got 0"},
           {"two", two, " has to be one tensor for each explained input (1), but got 2"},
           {"shape", row, ", [0], has to be of shape (2, 3, 4), but got (3, 4)"},
           {"dtype", single, ", [0], has to be of dtype Double, but got Float"},
           {"undefined", undefined, ", [0], has to be of shape (2, 3, 4), but got an undefined"}}) {
    const std::string full = "what the rule of 'aten::cumpr*' " + what + message;
    expect_refused({{name, lrp({.operators = pattern, .rule = lrp::custom(rule)}), full},
                    {name, deeplift({pattern, rule}), full}});
  }
  expect_refused({
      {"no function", lrp({.operators = pattern, .rule = lrp::custom(nullptr)}),
       "function has to be a function where the rule is custom"},
      {"no function", deeplift({pattern, nullptr}), "the rule of 'aten::cumpr*' has to be a func"},
      {"no operators", deeplift({"", two}), "operators has to be named by each of the rules"},
  });
}

}  // namespace
}  // namespace diffmask::operator_rule_test
