#include "diffmask/optim/optimiser.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

at::Tensor leaf(std::vector<double> values) {
  return at::tensor(values, at::kDouble).requires_grad_(true);
}

TEST(DescentTest, StepsAreThoseOfLibTorchsOptimiser) {
  const at::Tensor a = leaf({1, -2}), b = leaf({3}), c = leaf({1, -2}), d = leaf({3});
  const auto loss = [](const at::Tensor& x, const at::Tensor& y) {
    return x.square().sum() * y.sum();
  };
  Descent descent(optimiser::adam(0.95), {{"gates", {a}, 0.1}, {"baselines", {b}, 0.02}});
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (const auto& [tensor, rate] : {std::pair{c, 0.1}, std::pair{d, 0.02}}) {
    groups.emplace_back(std::vector<at::Tensor>{tensor},
                        std::make_unique<torch::optim::AdamOptions>(
                            torch::optim::AdamOptions(rate).betas({0.9, 0.95})));
  }
  torch::optim::Adam adam(groups, torch::optim::AdamOptions());
  for (const double share : {1.0, 0.5, 0.25}) {
    descent.step(loss(a, b), share);
    adam.param_groups()[0].options().set_lr(0.1 * share);
    adam.param_groups()[1].options().set_lr(0.02 * share);
    adam.zero_grad();
    loss(c, d).backward();
    adam.step();
    EXPECT_TRUE(a.equal(c)) << a << c;
    EXPECT_TRUE(b.equal(d)) << b << d;
  }
  EXPECT_EQ(descent.parameters().size(), 2u);
  descent.clear();
  EXPECT_FALSE(a.grad().defined());
}

TEST(DescentTest, OtherParametersKeepTheirGradients) {
  const at::Tensor mine = leaf({1}), frozen = leaf({2});
  Descent descent(optimiser::rmsprop(), {{"gates", {mine}, 0.1}});
  descent.step((mine * frozen).sum());
  EXPECT_NE(mine.item<double>(), 1);
  EXPECT_FALSE(frozen.grad().defined());
  EXPECT_EQ(frozen.item<double>(), 2);
}

TEST(DescentTest, WhatTheLossDoesNotReachStays) {
  const at::Tensor used = leaf({1}), unused = leaf({2});
  Descent descent(optimiser::adam(), {{"gates", {used, unused}, 0.1}});
  descent.step(used.square().sum());
  EXPECT_LT(used.item<double>(), 1);
  EXPECT_EQ(unused.item<double>(), 2);
}

TEST(DescentTest, RefusesFactoriesThatDoNotFit) {
  const at::Tensor a = leaf({1});
  const OptimiserFactory one_group = [](const std::vector<ParameterGroup>& groups) {
    return std::make_unique<torch::optim::SGD>(groups.front().parameters, 0.1);
  };
  EXPECT_NO_THROW(Descent(one_group, {{"gates", {a}, 0.1}}));
  expect_refused({
      {"none",
       [&] {
         Descent(nullptr, {{"gates", {a}, 0.1}});
       },
       "optimiser has to be a function"},
      {"too few groups",
       [&] {
         Descent(one_group, {{"gates", {a}, 0.1}, {"baselines", {leaf({2})}, 0.1}});
       },
       "optimiser has to be of 2 groups, but got 1"},
      {"beta2", [] { optimiser::adam(1.0); }, "beta2 has to be in (0, 1), but got 1"},
  });
}

}  // namespace
}  // namespace diffmask
