#include "diffmask/core/quadrature.hpp"

#include <Eigen/Eigenvalues>
#include <cmath>

#include "diffmask/core/error.hpp"

namespace diffmask {

std::pair<std::vector<double>, std::vector<double>> gauss_legendre(int n) {
  require(n >= 1, "n", ">= 1", n);
  Eigen::VectorXd off_diagonal(n - 1);
  for (int k = 1; k < n; ++k) off_diagonal(k - 1) = k / std::sqrt(4.0 * k * k - 1.0);
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver;
  solver.computeFromTridiagonal(Eigen::VectorXd::Zero(n), off_diagonal);
  std::vector<double> nodes(n), weights(n);
  for (int i = 0; i < n; ++i) {
    nodes[i] = (1.0 + solver.eigenvalues()(i)) / 2.0;
    weights[i] = std::pow(solver.eigenvectors()(0, i), 2);
  }
  return {nodes, weights};
}

}  // namespace diffmask
