#pragma once
/// \file
/// What an attribution should follow, and what it should not: it should hold still where the state
/// hardly moves, change where the model is another one, and not change with a seed.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "diffmask/attribution/attributor.hpp"

namespace diffmask {

/// An attribution as a function of the state. Shape: (B, ...) -> (B, ...).
using Explanation = std::function<at::Tensor(const at::Tensor& state)>;

/// A site's scores (B, P) as a function of its state, by a method that is made for a model which
/// begins there: its one site is this one, and its input are indices of examples. Methods that go
/// through a model operator by operator cannot be made for it.
Explanation explanation_at(
    std::shared_ptr<const FrozenModel> model, const Batch& batch, const std::string& site,
    std::function<Attribution(std::shared_ptr<const FrozenModel>, const Batch&)> attribute);

/// max over perturbations d of || s(h + d) - s(h) || / || s(h) ||, Euclidean norms, an example each
/// (Yeh et al. 2019, equation 2; divided by the norm as in Captum); lower is better. Where s(h) is
/// 0 it is not divided. Shape: perturbations (N, B, ...), N states -> (B).
at::Tensor sensitivity_max(const Explanation& explain, const at::Tensor& state,
                           const at::Tensor& perturbations);

/// Perturbations for it, uniform in [-radius, radius] in each number; radius > 0. Shape: state
/// (B, ...) -> (count, B, ...).
at::Tensor uniform_perturbations(const at::Tensor& state, int64_t count, double radius,
                                 at::Generator generator);

/// Spearman's correlation of two attributions' scores, row by row, over explained positions; NaN
/// for rows where either is constant. Between a model's attribution and that of a copy with random
/// parameters it is the model-parameter randomisation test (Adebayo et al. 2018; lower is better: a
/// high one says that the scores do not depend on what the model has learned); between two seeds'
/// it is rank agreement (higher is better). Shape: a, b (B, P), mask (B, P) bool -> (B).
at::Tensor row_spearman(const at::Tensor& a, const at::Tensor& b, const at::Tensor& mask);

/// Share of the k = ceil(share n) positions of highest score that two attributions have in common;
/// higher is better. Ties go by position. Shape: a, b (B, P) -> (B).
at::Tensor top_agreement(const at::Tensor& a, const at::Tensor& b, const at::Tensor& mask,
                         double share);

}  // namespace diffmask
