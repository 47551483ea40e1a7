#pragma once
/// \file
/// What methods share that train a probe per site, once, and then read explanations from states:
///
///     min over phi   E over batches [ sum over sites of loss(logits_phi) ]
///
/// by Adam, the model being frozen.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "diffmask/attribution/site_method.hpp"
#include "diffmask/probe/mlp.hpp"
#include "diffmask/train/recorded_batches.hpp"

namespace diffmask {

struct AmortisedOptions {
  int64_t steps = 1000;     ///< >= 1
  double rate = 0.01;       ///< Adam's step size, > 0
  double final_rate = 0.1;  ///< it falls linearly to this share at the last step, in (0, 1]
  BatchOptions batches = {};
  uint64_t seed = 0;  ///< of the probes, the order of batches, and what a loss draws
  std::vector<Callback> callbacks = {};  ///< called after each step

  void validate() const;
};

/// A probe for each site, which reads the states of all sites side by side.
class AmortisedProbes {
 public:
  /// A batch's loss at a site, a scalar. Shape: logits (B, P).
  using SiteLoss = std::function<at::Tensor(const RecordedBatch& item, int64_t depth,
                                            const at::Tensor& logits, at::Generator generator)>;

  /// Trains new probes; those from before are kept where an exception passes.
  void fit(const FrozenModel& model, const AttributionOptions& options,
           const MlpProbeOptions& probe, const Dataset& data, const AmortisedOptions& amortised,
           const SiteLoss& loss);

  /// Of positions in one group their mean. Shape: (B, P). Throws Error before `fit`.
  at::Tensor logits(const AttributionOptions& options, const Recording& recording,
                    const Batch& batch, int64_t depth) const;

  bool fitted() const { return !probes_.empty(); }

 private:
  std::vector<std::shared_ptr<MlpProbe>> probes_;
};

}  // namespace diffmask
