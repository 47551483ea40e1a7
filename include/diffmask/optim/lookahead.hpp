#pragma once
/// \file
/// Lookahead (Zhang et al., NeurIPS 2019): slow weights that follow the fast ones.
///
///     every k steps:  slow += alpha (fast - slow),  fast = slow

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace diffmask {

struct LookaheadOptions {
  int64_t k = 6;       ///< steps between two looks, >= 1 (reference: 6)
  double alpha = 0.5;  ///< share of the way that the slow weights go, in (0, 1] (reference: 0.5)

  void validate() const;
};

class Lookahead {
 public:
  explicit Lookahead(std::vector<at::Tensor> parameters, LookaheadOptions options = {});

  /// To be called after each step of the inner optimiser.
  void step();

 private:
  LookaheadOptions options_;
  std::vector<at::Tensor> fast_, slow_;
  int64_t steps_ = 0;
};

}  // namespace diffmask
