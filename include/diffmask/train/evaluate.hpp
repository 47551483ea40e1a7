#pragma once
/// \file
/// What an explainer's gates cost and keep over a data set, without randomness:
///
///     D_l = mean over examples of D(f(x) || f(x with h~_l)),   z = E[z], and z = 1[P > 0.5]

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/core/shape.hpp"
#include "diffmask/mask/explainer.hpp"
#include "diffmask/objective/divergence.hpp"
#include "diffmask/objective/penalty.hpp"
#include "diffmask/train/recorded_batches.hpp"
#include "diffmask/train/summary.hpp"

namespace diffmask {

/// D of each row when a depth is masked by z, checked: a user's function may give anything. Throws
/// ArgumentError where it is not one finite number per row. Shape: z (B, P) -> (B).
inline at::Tensor masked_divergence(const FrozenModel& model, const Explainer& explainer,
                                    const RecordedBatch& item, int64_t depth, const at::Tensor& z,
                                    const Divergence& divergence) {
  const at::Tensor masked = explainer.masked_output(model, item.recording, depth, z);
  const at::Tensor result = divergence(item.recording.output(), masked);
  check_shape("divergence(original, masked)", result, {item.batch.size()});
  check_finite(fmt::format("divergence at '{}'", explainer.sites()[static_cast<size_t>(depth)]),
               result);
  return result;
}

/// Every depth over the data without randomness, each masked alone. Shape: one entry per depth.
inline std::vector<DepthEvaluation> evaluate(const FrozenModel& model, const Explainer& explainer,
                                             RecordedBatches& data, const Divergence& divergence,
                                             double epsilon) {
  at::NoGradGuard no_grad;
  const std::vector<int64_t> depths = iota(explainer.depths());
  std::vector<DepthEvaluation> sums(depths.size(), {0, 0, 0, 0, 0});
  int64_t examples = 0;
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto item = data.at(i);
    const at::Tensor& mask = item->batch.mask;
    const auto size = static_cast<double>(item->batch.size());
    const auto expected = explainer.gates(item->recording, item->batch, depths, Draw::mean);
    for (const int64_t depth : depths) {
      const Gates& gates = expected[static_cast<size_t>(depth)];
      const at::Tensor keep = gates.log_keep.exp();
      const at::Tensor hard = keep.gt(0.5).to(keep.scalar_type());
      const auto rows = [&](const at::Tensor& z) {
        return masked_divergence(model, explainer, *item, depth, z, divergence);
      };
      const at::Tensor hard_rows = rows(hard);
      DepthEvaluation& sum = sums[static_cast<size_t>(depth)];
      sum.divergence += rows(gates.z).sum().item<double>();
      sum.hard_divergence += hard_rows.sum().item<double>();
      sum.keep += size * masked_mean(keep, mask).item<double>();
      sum.hard_keep += size * masked_mean(hard, mask).item<double>();
      sum.within += hard_rows.le(epsilon).sum().item<double>();
    }
    examples += item->batch.size();
  }
  for (DepthEvaluation& sum : sums) {
    for (double* value :
         {&sum.divergence, &sum.hard_divergence, &sum.keep, &sum.hard_keep, &sum.within}) {
      *value /= static_cast<double>(examples);
    }
  }
  return sums;
}

}  // namespace diffmask
