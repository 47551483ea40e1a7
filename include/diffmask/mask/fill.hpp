#pragma once
/// \file
/// Fills: what stands in place of a state that is taken away, where no baseline was trained.
///
/// A fill maps a site's name and its state h to a tensor that broadcasts against h.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <string>

namespace diffmask {

using Fill = std::function<at::Tensor(const std::string& site, const at::Tensor& state)>;

namespace fill {

/// The zero vector.
at::Tensor zero(const std::string& site, const at::Tensor& state);

/// A tensor per site, such as mean states or the baselines that DiffMask learned. The function
/// throws ArgumentError for a site that has none, or one that does not broadcast against the state.
Fill given(std::map<std::string, at::Tensor> tensors);

/// Another example's state of the same batch, the next in a random cyclic order; a batch of one has
/// none, which is an ArgumentError.
Fill other_example(at::Generator generator);

/// A draw of each position's state given its neighbours', c = [h_{t-1}; h_{t+1}], from a Gaussian
/// fitted to the states of other examples (Zintgraf et al. 2017, "conditional sampling"):
///
///     h_t | c ~ N(mu + S_hc S_cc^-1 (c - mu_c),  S_hh - S_hc S_cc^-1 S_ch)
///
/// A neighbour beyond either end counts as the mean, as it did while fitting. For methods that take
/// away one position at a time: each draw is given neighbours that are there.
/// Shape: states of a site (N, T, F); mask (N, T) bool, true where there is a position.
Fill conditional_gaussian(const std::map<std::string, at::Tensor>& states, const at::Tensor& mask,
                          at::Generator generator);

/// A fill applied and checked, spread to the state's shape. Throws ArgumentError unless it gives a
/// tensor that broadcasts against the state.
at::Tensor value(const Fill& fill, const std::string& site, const at::Tensor& state);

}  // namespace fill
}  // namespace diffmask
