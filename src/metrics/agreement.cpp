#include "diffmask/metrics/agreement.hpp"

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
  require(chosen.size() == truth.size(), "chosen", fmt::format("of {} entries", truth.size()),
          chosen.size());
  double hits = 0, total = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    hits += chosen[i] && truth[i] ? 1 : 0;
    total += (chosen[i] ? 1 : 0) + (truth[i] ? 1 : 0);
  }
  return total > 0 ? 2 * hits / total : 1;
}

}  // namespace diffmask
