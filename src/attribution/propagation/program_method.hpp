#pragma once
/// \file
/// What DeepLIFT and LRP share: a batch's tape, and the result that is made of what arrived at its
/// sites; private.

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/model/frozen_model.hpp"
#include "program/tape.hpp"

namespace diffmask {

class ProgramPass {
 public:
  /// Of the model's program. Roots: the options' sites, or all of the program's.
  ProgramPass(const FrozenModel& model, const AttributionOptions& options, const Batch& batch,
              bool all_sites_are_roots, Explained explained = Explained::gradients);

  const Tape& tape() const { return tape_; }
  const std::vector<Slot>& slots() const { return slots_; }  ///< of the options' sites
  at::Tensor state(size_t depth) const { return tape_.value(slots_[depth]).toTensor().detach(); }
  at::Tensor output() const { return arranged(tape_.output().detach()); }

  /// An output of the program with the examples first.
  at::Tensor arranged(const at::Tensor& output) const;
  /// The sum over all of each example's. Shape: features the state's -> (B).
  at::Tensor example_sums(size_t depth, const at::Tensor& features) const;
  /// a where an example's condition holds, else b. Shape: condition (B); a and b the state's.
  at::Tensor choose(size_t depth, const at::Tensor& condition, const at::Tensor& a,
                    const at::Tensor& b) const;

  /// The result, but for the gap: scores are sums over features, keep is scores > 0. Where a
  /// site's features are undefined, as the output does not depend on it, they are 0 if the options
  /// say so, else it is an ArgumentError.
  Attribution result(std::vector<at::Tensor> features, int64_t passes) const;

 private:
  void check_layout(size_t depth) const;

  const AttributionOptions& options_;
  const Batch& batch_;
  std::shared_ptr<const Program> program_;
  std::vector<Slot> slots_;
  Tape tape_;
};

/// The results of `explain` on parts of the batch, as large as options.passes allow, in one.
Attribution in_parts(const AttributionOptions& options, const Batch& batch,
                     const std::function<Attribution(const Batch& part, int64_t begin)>& explain);

/// d target / d output at the output. Shape: the output's.
at::Tensor target_gradient(const Target& target, const at::Tensor& output,
                           const at::Tensor& original);

/// Sums over all but the first dimension. Shape: (B, ...) -> (B).
at::Tensor row_sums(const at::Tensor& values);

}  // namespace diffmask
