#pragma once
/// \file
/// The bottleneck's two formulas, for both of its forms.

#include <ATen/ATen.h>

#include <string>

#include "diffmask/attribution/learned/information_bottleneck.hpp"

namespace diffmask {

/// A site's noise, mu and sigma being of a shape that broadcasts against its state.
struct Bottleneck {
  at::Tensor mean, deviation;

  /// ArgumentError for a channel whose deviation is 0, unless there is a floor.
  Bottleneck(const StateStatistics& statistics, const std::string& site, const Positions& positions,
             double floor);

  /// Z. Shape: alpha and free (1 where there may be noise, else 0) broadcast against state, noise.
  at::Tensor noisy(const at::Tensor& alpha, const at::Tensor& free, const at::Tensor& state,
                   const at::Tensor& noise) const;

  /// KL in nats of each number, of the state's shape; 0 where `free` is.
  at::Tensor kl(const at::Tensor& alpha, const at::Tensor& free, const at::Tensor& state) const;
};

/// The sum of KL's terms over their number, for each row. Shape: (B, ...) -> (B).
at::Tensor mean_kl(const at::Tensor& kl, const at::Tensor& free);

/// The method's result from KL and l. Shape: open broadcasts against KL.
SiteMethod::Column bits(const Positions& positions, const at::Tensor& kl, const at::Tensor& open);

}  // namespace diffmask
