#pragma once
/// \file
/// How well scores rank what is true above what is not, over all thresholds; higher is better.
///
///     ROC-AUC = P(s_i > s_j) + P(s_i = s_j) / 2            i true, j false, both drawn at random
///     AP      = mean over true i of  #{true k: s_k >= s_i} / #{k: s_k >= s_i}
///
/// The first is 1/2 for scores that say nothing (Fawcett 2006); the second, average precision, the
/// area under the precision-recall curve by steps (AUPRC in DeYoung et al. 2020), is then the share
/// of what is true. Equal scores are one threshold in both.

#include <ATen/core/Tensor.h>

namespace diffmask {

/// Shape: scores (N) finite; truth (N) bool, with at least one true and one false.
double roc_auc(const at::Tensor& scores, const at::Tensor& truth);

/// Shape: scores (N) finite; truth (N) bool, with at least one true.
double average_precision(const at::Tensor& scores, const at::Tensor& truth);

}  // namespace diffmask
