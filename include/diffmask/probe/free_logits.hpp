#pragma once
/// \file
/// The non-amortised probe: one free logit for every example and position, which reads no state.
/// De Cao et al. 2020, section 3: without amortisation the mask may use hindsight; it is the
/// control.

#include <cstdint>

#include "diffmask/probe/probe.hpp"

namespace diffmask {

struct FreeLogitsOptions {
  double initial = 5.0;  ///< the reference's start
  double limit = 10.0;   ///< logits are clamped to [-limit, limit] (reference: 10)

  void validate() const;
};

class FreeLogits : public Probe {
 public:
  /// Room for `examples` examples of at most `positions` positions.
  FreeLogits(int64_t examples, int64_t positions, FreeLogitsOptions options = {});

  /// The logits of the examples of these numbers, with nothing to drop out; ArgumentError for a
  /// number that has none.
  at::Tensor logits(const at::Tensor& features, const at::Tensor& examples,
                    const Dropout& dropout = {}) override;

  /// Clamps the logits themselves: clamping where they are read would end their gradient at the
  /// limit.
  void project() override;

 private:
  FreeLogitsOptions options_;
  at::Tensor logits_;
};

}  // namespace diffmask
