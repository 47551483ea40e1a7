#pragma once
/// \file
/// LRP's rules, operator by operator; private. See attribution/propagation/lrp.hpp.

#include <ATen/ATen.h>

#include <vector>

#include "attribution/propagation/operators.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"

namespace diffmask {

/// z + epsilon sign(z), sign(0) = 1.
at::Tensor stabilised(const at::Tensor& z, double epsilon);

/// What stands around an operation: what gave its inputs, and whether the user's table has a rule
/// for one of these.
struct Around {
  Makers makers;
  Chosen chosen;
};

/// The relevance of an operation's varying tensors, given that of its outputs. `chosen`: the
/// table's rule, null where it has none. Error where there is no rule at all.
std::vector<at::Tensor> relevance(const Operation& operation, const std::vector<at::Tensor>& given,
                                  const LrpRule* chosen, const LrpOptions& options,
                                  const Around& around);

/// That of x in y = x w + b, of whatever operators it is written; y is `output`.
at::Tensor relevance(const Affine& affine, const at::Tensor& output, const at::Tensor& given,
                     const LrpRule* chosen, const LrpOptions& options);

}  // namespace diffmask
