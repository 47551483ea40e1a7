#include "diffmask/probe/free_logits.hpp"

#include <gtest/gtest.h>

#include "tests/bad_input.hpp"
#include "tests/finite_difference.hpp"

namespace diffmask {
namespace {

at::Tensor numbers(std::vector<int64_t> examples) { return at::tensor(examples, at::kLong); }

TEST(FreeLogitsTest, AreOneAnExampleAndPosition) {
  FreeLogits probe({3, 4});
  const at::Tensor table = probe.named_parameters()["logits"];
  EXPECT_TRUE(table.equal(at::full({3, 4}, 5.0)));
  {
    at::NoGradGuard no_grad;
    table.copy_(at::arange(12).view({3, 4}));
  }
  const at::Tensor features = at::zeros({2, 3, 7});
  EXPECT_TRUE(probe.logits({features, {}, numbers({2, 0})})
                  .equal(at::tensor({8.0f, 9.0f, 10.0f, 0.0f, 1.0f, 2.0f}).view({2, 3})));
}

TEST(FreeLogitsTest, GradientsReachTheExamplesOfTheBatchAlone) {
  FreeLogits probe({3, 4}, {.initial = 1});
  probe.to(at::kDouble);
  const at::Tensor table = probe.named_parameters()["logits"];
  const auto f = [&] {
    return probe.logits({at::zeros({2, 3, 7}), {}, numbers({2, 0})}).pow(3).sum();
  };
  expect_gradient_at(f, table);
  const at::Tensor gradient = torch::autograd::grad({f()}, {table})[0];
  EXPECT_TRUE(gradient.ne(0).equal(
      at::tensor({1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0}).view({3, 4}).to(at::kBool)));
}

TEST(FreeLogitsTest, ProjectClampsAndKeepsTheGradientAtTheLimit) {
  FreeLogits probe({1, 3}, {.initial = 1, .limit = 2});
  const at::Tensor table = probe.named_parameters()["logits"];
  {
    at::NoGradGuard no_grad;
    table.copy_(at::tensor({-5.0f, 0.5f, 3.0f}));
  }
  probe.project();
  const at::Tensor logits = probe.logits({at::zeros({1, 3, 1}), {}, numbers({0})});
  EXPECT_TRUE(logits.equal(at::tensor({-2.0f, 0.5f, 2.0f}).view({1, 3})));
  EXPECT_TRUE(torch::autograd::grad({logits.sum()}, {table})[0].equal(at::ones({1, 3})));
}

TEST(FreeLogitsTest, RefusesBadInput) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto make = [](int64_t examples, int64_t positions, FreeLogitsOptions options = {}) {
    return [=] { FreeLogits probe({examples, positions}, options); };
  };
  const auto read = [](at::Tensor examples, int64_t positions = 4) {
    return [=] { FreeLogits({3, 4}).logits({at::zeros({1, positions, 2}), {}, examples}); };
  };
  EXPECT_NO_THROW(read(numbers({2}))());
  expect_refused({
      {"no examples", make(0, 4), "examples has to be >= 1"},
      {"no positions", make(3, 0), "positions has to be >= 1"},
      {"limit 0", make(3, 4, {.initial = 0, .limit = 0}), "limit has to be > 0"},
      {"limit NaN", make(3, 4, {.limit = kNan}), "limit"},
      {"initial beyond", make(3, 4, {.initial = -11}), "initial has to be within +-10"},
      {"initial NaN", make(3, 4, {.initial = kNan}), "initial"},
      {"no numbers", read({}), "batch.examples has to be given"},
      {"example 3 of 3", read(numbers({3})),
       "batch.examples has to be in 0..2, the examples fitted"},
      {"example -1", read(numbers({-1})), "but got -1..-1"},
      {"more positions", read(numbers({0}), 5), "positions has to be at most 4, as fitted"},
  });
}

}  // namespace
}  // namespace diffmask
