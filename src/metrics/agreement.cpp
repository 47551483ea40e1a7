#include "diffmask/metrics/agreement.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

// Ranks from 0 in double; a value that comes n times has the mean of n ranks in a row.
at::Tensor ranks(const at::Tensor& values) {
  const at::Tensor sorted = std::get<0>(values.contiguous().sort());
  const at::Tensor before = at::searchsorted(sorted, values, false, /*right=*/false);
  const at::Tensor upto = at::searchsorted(sorted, values, false, /*right=*/true);
  return (before + upto - 1).to(at::kDouble) / 2;
}

using Span = std::pair<int64_t, int64_t>;  // [begin, end)

std::vector<Span> spans_of(const std::vector<bool>& words) {
  std::vector<Span> spans;
  for (size_t i = 0; i < words.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    if (words[i] && (i == 0 || !words[i - 1])) spans.emplace_back(at, at);
    if (words[i]) spans.back().second = at + 1;
  }
  return spans;
}

double iou(const Span& a, const Span& b) {
  const int64_t both = std::min(a.second, b.second) - std::max(a.first, b.first);
  const int64_t either = std::max(a.second, b.second) - std::min(a.first, b.first);
  return both <= 0 ? 0 : static_cast<double>(both) / static_cast<double>(either);
}

void check_sizes(const std::vector<bool>& chosen, const std::vector<bool>& truth) {
  require(chosen.size() == truth.size(), "chosen", fmt::format("of {} entries", truth.size()),
          chosen.size());
}

}  // namespace

double spearman(const at::Tensor& a, const at::Tensor& b) {
  check_shape("a", a, {-1});
  check_shape("b", b, a.sizes());
  require(a.size(0) >= 2, "a", "of at least two values", a.size(0));
  check_finite("a", a);
  check_finite("b", b);
  const at::Tensor x = ranks(a.contiguous()), y = ranks(b.contiguous());
  const at::Tensor dx = x - x.mean(), dy = y - y.mean();
  return ((dx * dy).sum() / (dx.square().sum() * dy.square().sum()).sqrt()).item<double>();
}

double choice_f1(const std::vector<bool>& chosen, const std::vector<bool>& truth) {
  check_sizes(chosen, truth);
  double hits = 0, total = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    hits += chosen[i] && truth[i] ? 1 : 0;
    total += (chosen[i] ? 1 : 0) + (truth[i] ? 1 : 0);
  }
  return total > 0 ? 2 * hits / total : 1;
}

double choice_iou(const std::vector<bool>& chosen, const std::vector<bool>& truth) {
  check_sizes(chosen, truth);
  double both = 0, either = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    both += chosen[i] && truth[i] ? 1 : 0;
    either += chosen[i] || truth[i] ? 1 : 0;
  }
  return either > 0 ? both / either : 1;
}

double span_iou_f1(const std::vector<bool>& chosen, const std::vector<bool>& truth,
                   double threshold) {
  check_sizes(chosen, truth);
  require(threshold > 0 && threshold <= 1, "threshold", "in (0, 1]", threshold);
  const std::vector<Span> ours = spans_of(chosen), theirs = spans_of(truth);
  if (ours.empty() || theirs.empty()) return ours.empty() && theirs.empty() ? 1 : 0;
  double found = 0;
  for (const Span& span : ours) {
    const auto fits = [&](const Span& other) { return iou(span, other) >= threshold; };
    found += std::any_of(theirs.begin(), theirs.end(), fits) ? 1 : 0;
  }
  const double precision = found / static_cast<double>(ours.size());
  // Two chosen spans may find one true one.
  const double recall = std::min(found / static_cast<double>(theirs.size()), 1.0);
  return found > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

double mean_spearman(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  require(!a.empty(), "a", "scores of at least one example", "none");
  require(b.size() == a.size(), "b", fmt::format("of {} examples", a.size()), b.size());
  double sum = 0.0, count = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].numel() < 2) continue;
    const double rho = spearman(a[i].flatten(), b[i].flatten());
    if (!std::isfinite(rho)) continue;
    sum += rho;
    count += 1;
  }
  return sum / count;
}

std::vector<double> means_by_label(const at::Tensor& values, const at::Tensor& label,
                                   int64_t labels) {
  require(labels >= 1, "labels", ">= 1", labels);
  check_shape("values", values, {-1});
  check_shape("label", label, values.sizes());
  const at::Tensor index = label.to(at::kCPU, at::kLong);
  require(index.numel() == 0 ||
              (index.min().item<int64_t>() >= 0 && index.max().item<int64_t>() < labels),
          "label", fmt::format("in [0, {})", labels), "others");
  const at::Tensor zeros = at::zeros({labels}, at::kDouble);
  const at::Tensor sums = zeros.index_add(0, index, values.to(at::kCPU, at::kDouble));
  const at::Tensor counts = at::bincount(index, {}, labels).to(at::kDouble);
  const at::Tensor means = sums / counts;
  const double* first = means.data_ptr<double>();
  return {first, first + labels};
}

}  // namespace diffmask
