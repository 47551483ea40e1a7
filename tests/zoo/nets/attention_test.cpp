#include "src/zoo/nets/attention.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "diffmask/core/random.hpp"
#include "tests/finite_difference.hpp"

namespace diffmask {
namespace {

// Dropping this little drops nothing, but is not done by LibTorch's fused operator.
constexpr double kNearlyNone = 1e-12;

at::Tensor draw(uint64_t seed) {
  return at::randn({2, 3, 5, 4}, make_generator(seed), at::TensorOptions(at::kDouble));
}

TEST(AttentionTest, IsItsFormula) {
  const at::Tensor q = draw(1), k = draw(2), v = draw(3);
  const at::Tensor mask = at::arange(5) < at::tensor({5, 2}).unsqueeze(1);
  const at::Tensor scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(4.0);
  const at::Tensor plain = at::matmul(scores.softmax(-1), v);
  const at::Tensor hidden = mask.logical_not().view({2, 1, 1, 5});
  const at::Tensor masked = at::matmul(scores.masked_fill(hidden, -INFINITY).softmax(-1), v);
  for (const double dropped : {0.0, kNearlyNone}) {
    EXPECT_TRUE(at::allclose(attention(q, k, v, {}, dropped, make_generator(1)), plain, 0, 1e-11));
    EXPECT_TRUE(
        at::allclose(attention(q, k, v, mask, dropped, make_generator(1)), masked, 0, 1e-11));
  }
}

TEST(AttentionTest, GradientsAreThoseOfFiniteDifferences) {
  const at::Tensor mask = at::arange(5) < at::tensor({5, 2}).unsqueeze(1);
  const at::Tensor q = draw(1), k = draw(2), v = draw(3), weights = draw(4);
  for (const double dropped : {0.0, kNearlyNone}) {
    const auto sum = [&](const at::Tensor& a, const at::Tensor& b, const at::Tensor& c) {
      return (weights * attention(a, b, c, mask, dropped, make_generator(1))).sum();
    };
    expect_gradient([&](const at::Tensor& x) { return sum(x, k, v); }, q);
    expect_gradient([&](const at::Tensor& x) { return sum(q, x, v); }, k);
    expect_gradient([&](const at::Tensor& x) { return sum(q, k, x); }, v);
  }
}

TEST(AttentionTest, DropsAShareAndKeepsTheMean) {
  const at::Tensor q = at::zeros({50, 4, 10, 2}), v = at::ones({50, 4, 10, 2});
  const at::Tensor seen = attention(q, q, v, {}, 0.4, make_generator(1));
  EXPECT_NEAR(seen.mean().item<float>(), 1, 0.02);
  EXPECT_GT(seen.std().item<float>(), 0.1);
  EXPECT_TRUE(seen.equal(attention(q, q, v, {}, 0.4, make_generator(1))));
}

}  // namespace
}  // namespace diffmask
