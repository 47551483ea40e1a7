// Every kind of output: its divergence, target, decision and accuracy, and what is refused.
#include "diffmask/objective/output_kind.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

at::Tensor drawn(std::vector<int64_t> shape, uint64_t seed = 1) {
  return at::randn(shape, make_generator(seed), at::TensorOptions(at::kDouble));
}

struct Example {
  std::string kind;
  std::vector<int64_t> shape;
};

std::vector<Example> examples() {
  return {
      {"classes", {3, 4}},    {"logit", {3}},     {"logit", {3, 1}},     {"regression", {3}},
      {"regression", {3, 1}}, {"labels", {3, 4}}, {"tokens", {3, 5, 4}}, {"next_token", {3, 5, 4}},
      {"span", {3, 5, 2}}};
}

TEST(OutputKindTest, OutputsThatAgreeAreTheSameAndOthersDiffer) {
  for (const Example& each : examples()) {
    SCOPED_TRACE(each.kind);
    const OutputKind& kind = output_kind(each.kind);
    const at::Tensor y = drawn(each.shape), other = drawn(each.shape, 2) * 3;
    kind.check(y);
    EXPECT_LT(kind.divergence(y, y).abs().max().item<double>(), 1e-12);
    EXPECT_GT(kind.divergence(y, other).min().item<double>(), 1e-4);
    EXPECT_EQ(target::value(kind.target, y, y).sizes(), at::IntArrayRef({3}));
    EXPECT_EQ(target::value(kind.log_probability, y, y).sizes(), at::IntArrayRef({3}));
    EXPECT_LE(kind.log_probability(other, y).max().item<double>(), 0);
    EXPECT_EQ(kind.same_decision == nullptr, each.kind == "regression");
    if (!kind.same_decision) continue;
    EXPECT_TRUE(kind.same_decision(y, y).all().item<bool>());
    EXPECT_FALSE(kind.same_decision(-y, y).any().item<bool>());
  }
}

TEST(OutputKindTest, KnownValues) {
  const double one = std::log1p(std::exp(-1.0));  // -log sigmoid(1)
  const at::Tensor y = at::tensor({1.0, -1.0}, at::kDouble).unsqueeze(0);
  // Of a label at p = sigmoid(1), each the other way: (2 p - 1) (log p - log(1 - p)).
  const double p = 1 / (1 + std::exp(-1.0));
  EXPECT_NEAR(divergence::multi_label(y, -y).item<double>(), 2 * (2 * p - 1), 1e-12);
  EXPECT_NEAR(output_kind("labels").log_probability(y, y).item<double>(), -2 * one, 1e-12);
  EXPECT_NEAR(output_kind("labels").target(3 * y, y).item<double>(), 6, 1e-12);
  // Two tokens of two classes each; the last one decides what comes next.
  const at::Tensor tags = at::tensor({0.0, 1.0, 2.0, 0.0}, at::kDouble).view({1, 2, 2});
  const at::Tensor changed = at::tensor({0.0, 1.0, 0.0, 2.0}, at::kDouble).view({1, 2, 2});
  const double last =
      divergence::categorical(tags.select(1, 1), changed.select(1, 1)).item<double>();
  EXPECT_NEAR(divergence::next_token(tags, changed).item<double>(), last, 1e-12);
  EXPECT_NEAR(divergence::tokens(tags, changed).item<double>(), last / 2, 1e-12);
  EXPECT_EQ(output_kind("tokens").target(tags, tags).item<double>(), 1.5);
  EXPECT_EQ(output_kind("next_token").target(changed, tags).item<double>(), 0);
  EXPECT_EQ(output_kind("span").target(tags, tags).item<double>(), 3);  // starts at 1, ends at 0
  EXPECT_EQ(output_kind("regression").log_probability(y.t(), y.t() + 2)[0].item<double>(), -4);
}

TEST(OutputKindTest, AccuracyIsByTrueLabels) {
  const auto accuracy = [](const char* kind, const at::Tensor& y, const at::Tensor& labels) {
    return output_kind(kind).accuracy(y, labels);
  };
  const auto expect = [](const at::Tensor& found, std::vector<double> expected) {
    EXPECT_TRUE(found.equal(at::tensor(expected, at::kDouble))) << found;
  };
  const at::Tensor y = at::tensor({3.0, -1.0, -2.0, 4.0}, at::kDouble).view({2, 2});
  expect(accuracy("classes", y, at::tensor({0, 0}, at::kLong)), {1, 0});
  expect(accuracy("logit", y.select(1, 0), at::tensor({1, 1}, at::kLong)), {1, 0});
  expect(accuracy("labels", y, at::tensor({1, 1, 0, 1}).view({2, 2}).gt(0)), {0.5, 1});
  expect(accuracy("regression", y, y + 0.5), {0.5, 0.5});
  const at::Tensor tags = at::stack({y, y.flip(1)}, 1);  // classes 0, 1 and 1, 0
  expect(accuracy("tokens", tags, at::tensor({0, 0, -100, 0}, at::kLong).view({2, 2})), {0.5, 1});
  expect(accuracy("next_token", tags, at::tensor({1, 1}, at::kLong)), {1, 0});
  const at::Tensor span = tags.transpose(1, 2);  // starts 0 and 1, ends 1 and 0
  expect(accuracy("span", span, at::tensor({0, 1, 1, 1}, at::kLong).view({2, 2})), {1, 0});
}

TEST(OutputKindTest, AShapeTellsClassesAndElseTheErrorNamesTheChoices) {
  EXPECT_EQ(told_kind(at::zeros({3, 2})).name, "classes");
  const auto told = [](std::vector<int64_t> shape) {
    return [shape] { told_kind(at::zeros(shape)); };
  };
  expect_refused({
      {"one number", told({3}), "one of logit, regression"},
      {"one column", told({3, 1}), "one of logit, regression, labels"},
      {"tags", told({3, 5, 4}), "one of tokens, next_token"},
      {"spans or tags", told({3, 5, 2}), "one of tokens, next_token, span"},
      {"pixels", told({3, 5, 2, 2}), "functions of its own, but got (3, 5, 2, 2)"},
      {"a name", [] { output_kind("token"); }, "'token' (nearest: tokens"},
      {"another shape",
       [] {
         output_kind("span").check(at::zeros({3, 5, 4}));
       },
       "of shape (B, T, 2), as its kind is 'span', but got (3, 5, 4)"},
  });
}

// KL over one class is 0 whatever the output is: training by it goes nowhere, without a word.
TEST(OutputKindTest, NoDivergenceIsOfOneClass) {
  const at::Tensor one = at::zeros({3, 1}), two = at::zeros({3, 2}), tags = at::zeros({3, 5, 1});
  for (const Divergence& each :
       {Divergence(divergence::categorical), Divergence(divergence::reverse_categorical),
        Divergence(divergence::jensen_shannon)}) {
    expect_refused({{"one column", [&] { each(one, one); }, "bernoulli where it is a logit"}});
    EXPECT_EQ(each(two, two).sum().item<double>(), 0);
  }
  expect_refused({{"tags", [&] { divergence::tokens(tags, tags); }, "of two classes or more"},
                  {"next", [&] { divergence::next_token(tags, tags); }, "of two classes or more"},
                  {"tokens",
                   [] {
                     divergence::categorical(at::zeros({3, 5, 4}), at::zeros({3, 5, 4}));
                   },
                   "tokens, next_token or span"}});
}

TEST(TargetElementTest, IsOneNumberOfEachRow) {
  const at::Tensor y = drawn({3, 5, 4});
  EXPECT_TRUE(target::element({3, 2})(y, y).equal(y.select(1, 3).select(1, 2)));
  EXPECT_TRUE(target::element({-1, 0})(y, y).equal(y.select(1, 4).select(1, 0)));
  EXPECT_TRUE(target::element({1})(y[0], y[0]).equal(y[0].select(1, 1)));
  EXPECT_TRUE(target::element({0})(y[0][0], y[0][0]).equal(y[0][0]));
  expect_refused({
      {"a class alone", [&] { target::element({2})(y, y); },
       "2 of them, but got 1, for an output of shape (3, 5, 4)"},
      {"a token too far",
       [&] {
         target::element({5, 2})(y, y);
       },
       "in 0..4 for an output of shape (3, 5, 4), but got 5"},
      {"of one number", [&] { target::element({1})(y[0][0], y[0][0]); }, "in 0..0"},
  });
}

}  // namespace
}  // namespace diffmask
