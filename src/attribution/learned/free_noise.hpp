#pragma once
/// \file
/// What the methods that learn noise for one example at a time share: free parameters p at a site,
/// moved by Adam (Kingma and Ba 2015) down the gradient of
///
///     sum_b  mean_k D( f(x_b) || f(x_b with h~(p_b, n_k)) ) + cost_b(p_b),   n_k ~ N(0, 1)
///
/// An example's parameters meet its own terms alone, so that it is explained alike in any batch but
/// for what noise it is given.

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>

#include "diffmask/attribution/site_method.hpp"
#include "diffmask/objective/divergence.hpp"

namespace diffmask {

struct FreeNoise {
  int64_t steps, draws;
  double rate;
  Divergence divergence;

  /// h~ of some rows, indices of examples. Shape: parameters (B, ...), the others begin with N.
  std::function<at::Tensor(const at::Tensor& parameters, const at::Tensor& rows,
                           const at::Tensor& state, const at::Tensor& noise)>
      state;
  /// Of all examples. Shape: parameters (B, ...) -> (B).
  std::function<at::Tensor(const at::Tensor& parameters)> cost;
  /// Brings parameters back into their allowed set, in place.
  std::function<void(at::Tensor& parameters)> project = [](at::Tensor&) {};

  /// The parameters after the last step. Shape: start (B, ...).
  at::Tensor descend(const SiteMethod::Original& original, int64_t depth, const at::Tensor& start,
                     at::Generator generator) const;
};

}  // namespace diffmask
