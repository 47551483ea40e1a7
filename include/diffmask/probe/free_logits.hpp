#pragma once
/// \file
/// The non-amortised probe: one free logit for every example and position, which reads no state.
/// De Cao et al. 2020, section 3: without amortisation the mask may use hindsight; it is the
/// control.
///
///     DiffMask method(model, {.probe = free_logits()});

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "diffmask/core/error.hpp"
#include "diffmask/probe/probe.hpp"

namespace diffmask {

struct FreeLogitsOptions {
  double initial = 5.0;  ///< the reference's start
  double limit = 10.0;   ///< logits are clamped to [-limit, limit] (reference: 10)

  void validate() const {
    require(std::isfinite(limit) && limit > 0, "limit", "> 0", limit);
    require(std::abs(initial) < limit, "initial", fmt::format("within +-{}", limit), initial);
  }

  template <typename Visit>
  void visit(Visit visit) {
    visit("initial", initial);
    visit("limit", limit);
  }
};

class FreeLogits : public Probe {
 public:
  explicit FreeLogits(Capacity capacity, FreeLogitsOptions options = {}) : options_(options) {
    options_.validate();
    require(capacity.examples >= 1, "examples", ">= 1", capacity.examples);
    require(capacity.positions >= 1, "positions", ">= 1", capacity.positions);
    logits_ = register_parameter(
        "logits", at::full({capacity.examples, capacity.positions}, options_.initial));
  }

  /// The logits of these examples, with nothing to drop out; ArgumentError for an example that has
  /// none.
  at::Tensor logits(const ProbeStates& states, const Dropout& = {}) override {
    const at::Tensor& examples = states.examples;
    const int64_t positions = states.features.size(1);
    require(examples.defined(), "batch.examples", "given, since the logits are per example",
            "none");
    const int64_t least = examples.min().item<int64_t>(), most = examples.max().item<int64_t>();
    require(least >= 0 && most < logits_.size(0), "batch.examples",
            fmt::format("in 0..{}, the examples fitted", logits_.size(0) - 1),
            fmt::format("{}..{}", least, most));
    require(positions <= logits_.size(1), "positions",
            fmt::format("at most {}, as fitted", logits_.size(1)), positions);
    return logits_.index_select(0, examples).narrow(1, 0, positions);
  }

  /// Clamps the logits themselves: clamping where they are read would end their gradient at the
  /// limit.
  void project() override {
    at::NoGradGuard no_grad;
    logits_.clamp_(-options_.limit, options_.limit);
  }

  bool shift(double by) override {
    at::NoGradGuard no_grad;
    logits_.add_(by);
    project();
    return true;
  }

 private:
  FreeLogitsOptions options_;
  at::Tensor logits_;
};

/// One table of free logits for each depth.
inline ProbeFactory free_logits(FreeLogitsOptions options = {}) {
  options.validate();
  return {.make =
              [options](const ProbeInput& input, const at::Generator&) {
                return std::make_shared<FreeLogits>(input.capacity, options);
              },
          .part = part_of("free_logits", options),
          .per_sample = true};
}

}  // namespace diffmask
