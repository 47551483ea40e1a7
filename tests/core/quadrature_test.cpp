#include "diffmask/core/quadrature.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

double integrate(int n, const std::function<double(double)>& f) {
  const auto [nodes, weights] = gauss_legendre(n);
  double sum = 0;
  for (size_t i = 0; i < nodes.size(); ++i) sum += weights[i] * f(nodes[i]);
  return sum;
}

TEST(QuadratureTest, KnownRules) {
  const auto [nodes, weights] = gauss_legendre(3);
  const double offset = std::sqrt(3.0 / 5.0) / 2.0;
  for (const auto& [i, node, weight] :
       {std::tuple(0, 0.5 - offset, 5.0 / 18.0), std::tuple(1, 0.5, 8.0 / 18.0),
        std::tuple(2, 0.5 + offset, 5.0 / 18.0)}) {
    EXPECT_NEAR(nodes[i], node, 1e-14);
    EXPECT_NEAR(weights[i], weight, 1e-14);
  }
}

TEST(QuadratureTest, ExactForPolynomialsOfDegree2nMinus1AndNoMore) {
  for (const int n : {1, 2, 5, 16, 64}) {
    for (int degree = 0; degree < 2 * n; ++degree) {
      EXPECT_NEAR(integrate(n, [&](double x) { return std::pow(x, degree); }), 1.0 / (degree + 1),
                  1e-13)
          << n << " points, degree " << degree;
    }
  }
  EXPECT_GT(std::abs(integrate(2, [](double x) { return std::pow(x, 4); }) - 0.2), 1e-3);
}

TEST(QuadratureTest, SmoothFunctions) {
  EXPECT_NEAR(integrate(16, [](double x) { return std::exp(x); }), std::exp(1.0) - 1.0, 1e-14);
  EXPECT_NEAR(integrate(64, [](double x) { return 1 / (1 + x * x); }), std::atan(1.0), 1e-14);
}

TEST(QuadratureTest, RefusesNoPoints) {
  expect_refused({{"0", [] { gauss_legendre(0); }, "n has to be >= 1, but got 0"},
                  {"-1", [] { gauss_legendre(-1); }, "-1"}});
}

}  // namespace
}  // namespace diffmask
