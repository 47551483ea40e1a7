#pragma once
/// \file
/// How well two rankings, or two choices of words, agree.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace diffmask {

/// Spearman's rank correlation, in [-1, 1]: the correlation of the ranks, equal values sharing the
/// mean of theirs. NaN where one of the two is constant. Shape: a, b (N) floating point, N >= 2.
double spearman(const at::Tensor& a, const at::Tensor& b);

/// F1 = 2 P R / (P + R) of what was chosen against what should have been (DeYoung et al. 2020,
/// "token F1"); higher is better. 1 where both are empty, 0 where one is.
double choice_f1(const std::vector<bool>& chosen, const std::vector<bool>& truth);

/// IOU = |both| / |either| of the two sets of words; higher is better. 1 where both are empty.
double choice_iou(const std::vector<bool>& chosen, const std::vector<bool>& truth);

/// F1 of spans, that is runs of neighbouring words (DeYoung et al. 2020, "IOU F1"): a chosen span
/// counts as found where its IOU with some true one is at least `threshold`, in (0, 1];
/// P = found / chosen spans, R = found / true spans, 1 at most; higher is better. 1 where both are
/// empty, 0 where one is.
double span_iou_f1(const std::vector<bool>& chosen, const std::vector<bool>& truth,
                   double threshold = 0.5);

/// The mean of Spearman's correlation over examples, of the scores that two runs give each; those
/// where it is NaN are left out. Shape: a, b one tensor per example, of any shape, the same in
/// both.
double mean_spearman(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b);

/// The mean of `values` over the entries of each label 0..labels - 1; NaN for a label without an
/// entry. For example: how many depths words of each sentiment survive.
/// Shape: values (N) floating point; label (N) int64.
std::vector<double> means_by_label(const at::Tensor& values, const at::Tensor& label,
                                   int64_t labels);

}  // namespace diffmask
