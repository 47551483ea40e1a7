#pragma once
/// \file
/// Results as Eigen matrices, without a copy.

#include <Eigen/Core>

#include <cstdint>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/core/error.hpp"

namespace diffmask {

using ScoreView =
    Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

/// The scores of one example: row = position, column = depth. Shape: (P, D). Valid while the
/// attribution lives. ArgumentError for an example that is not in the batch, and for scores that
/// are not contiguous floats on the CPU (bring them there by scores.cpu()).
inline ScoreView view(const Attribution& attribution, int64_t example) {
  const at::Tensor& scores = attribution.scores;
  require(example >= 0 && example < scores.size(0), "example",
          fmt::format("in 0..{}", scores.size(0) - 1), example);
  require(scores.is_cpu() && scores.scalar_type() == at::kFloat && scores.is_contiguous(), "scores",
          "contiguous floats on the CPU", "others");
  return {scores.data_ptr<float>() + example * scores.stride(0), scores.size(1), scores.size(2)};
}

}  // namespace diffmask
