#pragma once
/// \file
/// DeepLIFT's walk back over a tape; private. See attribution/propagation/deeplift.hpp.

#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <vector>

#include "attribution/propagation/deeplift_rules.hpp"
#include "attribution/propagation/program_method.hpp"
#include "attribution/propagation/user_rules.hpp"
#include "diffmask/attribution/propagation/deeplift.hpp"
#include "program/tape.hpp"

namespace diffmask {

using DeepLiftTable = RuleTable<DeepLiftEntry>;

/// One site's state and a reference of it: the pass that the reference gives, and the multipliers m
/// of the state,
///
///     sum_i m_i (x_i - x0_i) = sum_k seed_k (y_k - y0_k),  y the output
///
/// The pass and the table have to outlive it.
class DeepLiftWalk {
 public:
  DeepLiftWalk(const ProgramPass& pass, size_t depth, const std::string& name,
               const at::Tensor& reference, const DeepLiftTable& table);

  /// At the reference. Undefined where the output does not depend on the site.
  at::Tensor output() const;

  /// Of the site. Shape: seed the output's -> the state's. Undefined where the output does not
  /// depend on the site. Error for an operator without a rule or with multipliers that are not
  /// finite.
  at::Tensor multipliers(const at::Tensor& seed, DeepLiftOptions::Activation activation,
                         Products products) const;

  /// Whether a walk came to an operation that Products is for.
  bool has_product() const { return has_product_; }

 private:
  struct Source;

  at::Tensor walk(const at::Tensor& seed, DeepLiftOptions::Activation activation, Products products,
                  bool checks) const;
  std::vector<Tape::Share> shares(const Operation& operation, const std::vector<at::Tensor>& given,
                                  DeepLiftOptions::Activation activation, Products products,
                                  bool checks) const;
  std::vector<at::Tensor> by_user(const DeepLiftEntry& entry, const Difference& d,
                                  const std::vector<at::Tensor>& given) const;
  std::optional<Tape::Share> reveal(const Difference& d, const at::Tensor& given) const;
  std::optional<Tape::Share> through_selection(const Difference& d, const at::Tensor& given) const;
  bool step_back(std::vector<Source>& front) const;
  static std::vector<Source> changing(const Difference& d);

  Tape::Filter changes() const;
  const c10::IValue& reference(Slot slot) const;
  Difference difference(const Operation& operation) const;

  const Tape& tape_;
  const DeepLiftTable& table_;
  Slot site_;
  std::string name_;
  Stack references_;  // values by slot, None where they stay what they are
  mutable bool has_product_ = false;
};

}  // namespace diffmask
