#include <gtest/gtest.h>

#include "diffmask/core/random.hpp"
#include "diffmask/mask/fill.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

// A chain h_t = 0.8 h_{t-1} + 0.6 e with variance 1: inside, E[h_t | c] = 0.8 (h_{t-1} + h_{t+1}) /
// (1 + 0.64), with variance 0.36 / 1.64.
TEST(ConditionalGaussianTest, DrawsWhatNeighboursLeaveOpen) {
  const int64_t n = 1000, length = 100;  // so long that the ends hardly count
  const at::Generator generator = make_generator(1);
  std::vector<at::Tensor> chain = {at::randn({n}, generator)};
  for (int t = 1; t < length; ++t)
    chain.push_back(0.8 * chain.back() + 0.6 * at::randn({n}, generator));
  const at::Tensor h = at::stack(chain, 1).unsqueeze(2) + 3;
  const at::Tensor mask = at::ones({n, length}, at::kBool);
  const Fill fill = fill::conditional_gaussian({{"low", h}}, mask, make_generator(2));
  const at::Tensor drawn = fill("low", h);
  ASSERT_EQ(drawn.sizes(), h.sizes());
  const at::Tensor sides = h.slice(1, 0, -2) + h.slice(1, 2) - 6;
  const at::Tensor rest = drawn.slice(1, 1, -1) - (3 + 0.8 / 1.64 * sides);
  EXPECT_NEAR(rest.mean().item<double>(), 0, 0.01);
  EXPECT_NEAR(rest.var().item<double>(), 0.36 / 1.64, 0.01);
  EXPECT_FALSE(fill("low", h).equal(drawn));
}

TEST(ConditionalGaussianTest, RefusesBadInput) {
  const at::Tensor h = at::zeros({4, 3, 2}), mask = at::ones({4, 3}, at::kBool);
  const auto make = [](const at::Tensor& states, const at::Tensor& of, bool generator = true) {
    return fill::conditional_gaussian({{"low", states}}, of,
                                      generator ? make_generator(1) : at::Generator());
  };
  expect_refused({
      {"no generator", [&] { make(h, mask, false); }, "generator has to be given"},
      {"mask's shape", [&] { make(h, mask.narrow(1, 0, 2)); },
       "states of 'low' has to be of shape"},
      {"no position", [&] { make(h, mask.logical_not()); }, "mask has to be true at one"},
      {"another site", [&] { make(h, mask)("high", h); }, "states has to be given for every site"},
      {"features",
       [&] {
         make(h, mask)("low", at::zeros({4, 3, 5}));
       },
       "state at 'low' has to be"},
  });
}

}  // namespace
}  // namespace diffmask
