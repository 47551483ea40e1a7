#pragma once
/// \file
/// Which parameters a run keeps: those that violate D <= eps least on the validation data, among
/// equals those that keep the fewest positions.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <compare>
#include <limits>
#include <utility>
#include <vector>

#include "diffmask/train/summary.hpp"

namespace diffmask {

/// What has to be within eps on the validation data: the expected gate's divergence, the hard
/// mask's, or both.
enum class Selection { expected, hard, both };

/// How good a depth's parameters are; smaller is better, the violation first.
struct Score {
  double violation = std::numeric_limits<double>::infinity();  ///< max(D - eps, 0)
  double keep = std::numeric_limits<double>::infinity();

  auto operator<=>(const Score&) const = default;

  static Score of(const DepthEvaluation& depth, Selection selection, double epsilon) {
    double divergence = 0.0, keep = 0.0;
    if (selection != Selection::hard) {
      divergence = depth.divergence;
      keep += depth.keep;
    }
    if (selection != Selection::expected) {
      divergence = std::max(divergence, depth.hard_divergence);
      keep += depth.hard_keep;
    }
    return {std::max(divergence - epsilon, 0.0), keep};
  }

  /// Of several depths that share their parameters: the worst violation, and all that is kept.
  static Score joint(const std::vector<Score>& depths) {
    Score all{0.0, 0.0};
    for (const Score& depth : depths) {
      all = {std::max(all.violation, depth.violation), all.keep + depth.keep};
    }
    return all;
  }
};

/// Copies of the best parameters seen.
class BestParameters {
 public:
  /// Copies these, in place of earlier copies of them.
  void keep(const std::vector<at::Tensor>& parameters) {
    for (const at::Tensor& parameter : parameters) {
      const auto found = std::find_if(copies_.begin(), copies_.end(), [&](const auto& copy) {
        return copy.first.is_same(parameter);
      });
      if (found == copies_.end()) {
        copies_.emplace_back(parameter, parameter.detach().clone());
      } else {
        found->second = parameter.detach().clone();
      }
    }
  }

  /// Writes the copies back.
  void restore() const {
    at::NoGradGuard no_grad;
    for (const auto& [parameter, copy] : copies_) at::Tensor(parameter).copy_(copy);
  }

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> copies_;
};

}  // namespace diffmask
