#pragma once
/// \file
/// Gauss-Legendre quadrature: sum_i w_i f(x_i) ~ integral of f over [0, 1], exact for polynomials
/// of degree 2n - 1.

#include <utility>
#include <vector>

namespace diffmask {

/// The n nodes and weights on [0, 1], by the eigenvalues of the Jacobi matrix (Golub and Welsch
/// 1969).
std::pair<std::vector<double>, std::vector<double>> gauss_legendre(int n);

}  // namespace diffmask
