#include "diffmask/objective/divergence.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"
#include "tests/finite_difference.hpp"

namespace diffmask {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Named {
  std::string name;
  Divergence divergence;
  std::vector<int64_t> shape;
};

const std::vector<Named>& divergences() {
  static const std::vector<Named> all = {
      {"categorical", divergence::categorical, {3, 4}},
      {"reverse_categorical", divergence::reverse_categorical, {3, 4}},
      {"jensen_shannon", divergence::jensen_shannon, {3, 4}},
      {"bernoulli", divergence::bernoulli, {3}},
      {"bernoulli, (B, 1)", divergence::bernoulli, {3, 1}},
      {"span", divergence::span, {3, 4, 2}},
      {"squared_error", divergence::squared_error, {3, 4, 2}},
  };
  return all;
}

at::Tensor row(std::vector<double> values) { return at::tensor(values, at::kDouble).unsqueeze(0); }

// Logits with these probabilities, off by a constant that must not matter.
at::Tensor with_probabilities(const std::vector<double>& p) { return row(p).log() + 3; }

TEST(DivergenceTest, KnownValues) {
  const std::vector<double> p = {0.5, 0.5, 0.0}, q = {0.25, 0.5, 0.25};
  const double forward = 0.5 * std::log(2.0);
  const double to_middle = 0.5 * std::log(0.5 / 0.375),
               from_middle = 0.25 * std::log(0.25 / 0.375) + 0.25 * std::log(2.0);
  const at::Tensor y = with_probabilities(p), masked = with_probabilities(q);
  const auto near = [](const at::Tensor& value, double expected) {
    EXPECT_EQ(value.sizes(), at::IntArrayRef({1}));
    if (std::isinf(expected)) {
      EXPECT_EQ(value.item<double>(), expected);
    } else {
      EXPECT_NEAR(value.item<double>(), expected, 1e-12);
    }
  };
  near(divergence::categorical(y, masked), forward);
  near(divergence::reverse_categorical(masked, y), forward);
  near(divergence::reverse_categorical(y, masked), kInfinity);
  near(divergence::categorical(masked, y), kInfinity);
  near(divergence::jensen_shannon(y, masked), (to_middle + from_middle) / 2);
  near(divergence::cross_entropy(with_probabilities({0.2, 0.5, 0.3}), masked), std::log(2.0));
  near(divergence::cross_entropy(row({2.0}), row({1.5})), std::log1p(std::exp(-1.5)));
  near(divergence::cross_entropy(row({-2.0}), row({1.5})), std::log1p(std::exp(1.5)));
  near(divergence::jensen_shannon(with_probabilities({1, 0}), with_probabilities({0, 1})),
       std::log(2.0));
  near(divergence::squared_error(row({1, 2, 3}), row({1, 4, 6})), 13.0 / 3.0);
  const at::Tensor start = with_probabilities({0.5, 0.5}), end = with_probabilities({0.2, 0.8});
  near(divergence::span(at::stack({start, end}, 2), at::stack({end, end}, 2)),
       0.5 * std::log(0.5 / 0.2) + 0.5 * std::log(0.5 / 0.8));
}

TEST(DivergenceTest, BernoulliIsTheCategoricalOfTwoClasses) {
  const at::Tensor y = at::tensor({-3.0, 0.2, 5.0}, at::kDouble);
  const at::Tensor masked = at::tensor({1.0, 0.1, -4.0}, at::kDouble);
  const auto two = [](const at::Tensor& y) { return at::stack({at::zeros_like(y), y}, 1); };
  const at::Tensor expected = divergence::categorical(two(y), two(masked));
  EXPECT_TRUE(divergence::bernoulli(y, masked).allclose(expected, 0, 1e-12));
  EXPECT_TRUE(
      divergence::bernoulli(y.unsqueeze(1), masked.unsqueeze(1)).allclose(expected, 0, 1e-12));
}

TEST(DivergenceTest, IsZeroWhereOutputsAgreeAndPositiveElsewhere) {
  for (const Named& each : divergences()) {
    SCOPED_TRACE(each.name);
    const at::Tensor y = at::randn(each.shape, make_generator(1), at::TensorOptions(at::kDouble));
    at::Tensor masked = y.clone();
    masked[1] = masked[1] * 2 + at::randn(masked[1].sizes(), make_generator(2), masked.options());
    const at::Tensor d = each.divergence(y, masked);
    EXPECT_EQ(d.sizes(), at::IntArrayRef({3}));
    EXPECT_NEAR(d[0].item<double>(), 0, 1e-15);
    EXPECT_NEAR(d[2].item<double>(), 0, 1e-15);
    EXPECT_GT(d[1].item<double>(), 1e-3);
  }
}

TEST(DivergenceTest, GradientsAgreeWithFiniteDifferences) {
  for (const Named& each : divergences()) {
    SCOPED_TRACE(each.name);
    const at::TensorOptions options(at::kDouble);
    const at::Tensor y = at::randn(each.shape, make_generator(1), options);
    const at::Tensor masked = at::randn(each.shape, make_generator(2), options);
    const at::Tensor weights = at::tensor({1.0, 2.0, -0.5}, at::kDouble);
    expect_gradient([&](const auto& x) { return (weights * each.divergence(y, x)).sum(); }, masked);
    expect_gradient([&](const auto& x) { return (weights * each.divergence(x, masked)).sum(); }, y);
  }
}

TEST(DivergenceTest, ClassesAtMinusInfinityInBothAreLeftOut) {
  for (const Named& each : divergences()) {
    if (each.shape.size() < 2 || each.shape[1] < 4 || each.name == "squared_error") continue;
    SCOPED_TRACE(each.name);
    const at::TensorOptions options(at::kDouble);
    const at::Tensor y = at::randn(each.shape, make_generator(1), options);
    const at::Tensor masked = at::randn(each.shape, make_generator(2), options);
    const auto padded = [](const at::Tensor& x) {
      return at::cat({x, at::full_like(x.narrow(1, 0, 1), -kInfinity)}, 1);
    };
    const auto f = [&](const at::Tensor& x) { return each.divergence(padded(y), padded(x)).sum(); };
    EXPECT_NEAR(f(masked).item<double>(), each.divergence(y, masked).sum().item<double>(), 1e-12);
    expect_gradient(f, masked);
  }
}

TEST(DivergenceTest, FarLogitsStayFinite) {
  const at::Tensor y = at::tensor({200.0f, -200.0f}), masked = at::tensor({-200.0f, 200.0f});
  EXPECT_TRUE(divergence::bernoulli(y, masked).allclose(at::full({2}, 200.0), 1e-5));
  const at::Tensor one = at::stack({y, masked}, 1);
  EXPECT_TRUE(divergence::categorical(one, one.flip(1)).allclose(at::full({2}, 400.0), 1e-5));
  EXPECT_TRUE(divergence::jensen_shannon(one, one.flip(1)).allclose(at::full({2}, std::log(2.0))));
}

TEST(DivergenceTest, RefusesOutputsThatDisagree) {
  const auto call = [](const Divergence& divergence, std::vector<int64_t> original,
                       std::vector<int64_t> masked) {
    return [=] { divergence(at::zeros(original), at::zeros(masked)); };
  };
  std::vector<BadInput> table;
  for (const Named& each : divergences()) {
    std::vector<int64_t> larger = each.shape;
    ++larger[0];
    table.push_back({each.name, call(each.divergence, each.shape, larger), "masked has to be of"});
  }
  table.push_back({"one logit", call(divergence::categorical, {3}, {3}), "of 2 dimensions"});
  table.push_back({"classes", call(divergence::bernoulli, {3, 2}, {3, 2}), "(B) or (B, 1)"});
  table.push_back({"no end", call(divergence::span, {3, 4, 1}, {3, 4, 1}), "start and end"});
  table.push_back({"no span", call(divergence::span, {3, 4}, {3, 4}), "of 3 dimensions"});
  expect_refused(table);
}

}  // namespace
}  // namespace diffmask
