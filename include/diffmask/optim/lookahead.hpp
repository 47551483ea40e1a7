#pragma once
/// \file
/// Lookahead (Zhang et al., NeurIPS 2019): slow weights that follow the fast ones.
///
///     every k steps:  slow += alpha (fast - slow),  fast = slow

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {

struct LookaheadOptions {
  int64_t k = 6;       ///< steps between two looks, >= 1 (reference: 6)
  double alpha = 0.5;  ///< share of the way that the slow weights go, in (0, 1] (reference: 0.5)

  void validate() const {
    require(k >= 1, "k", ">= 1", k);
    require(alpha > 0 && alpha <= 1, "alpha", "in (0, 1]", alpha);
  }
};

class Lookahead {
 public:
  explicit Lookahead(std::vector<at::Tensor> parameters, LookaheadOptions options = {})
      : options_(options), fast_(std::move(parameters)) {
    options_.validate();
    for (const at::Tensor& parameter : fast_) slow_.push_back(parameter.detach().clone());
  }

  /// To be called after each step of the inner optimiser.
  void step() {
    if (++steps_ % options_.k != 0) return;
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < fast_.size(); ++i) {
      slow_[i].add_(fast_[i] - slow_[i], options_.alpha);
      fast_[i].copy_(slow_[i]);
    }
  }

 private:
  LookaheadOptions options_;
  std::vector<at::Tensor> fast_, slow_;
  int64_t steps_ = 0;
};

}  // namespace diffmask
