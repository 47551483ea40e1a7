#include "diffmask/metrics/known_answer.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <cstddef>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

at::Tensor normalised(const at::Tensor& values, const at::Tensor& mask) {
  const at::Tensor inside = values.to(at::kDouble) * mask;
  const at::Tensor sum = inside.sum(1, /*keepdim=*/true);
  const at::Tensor uniform = mask.to(at::kDouble) / mask.sum(1, /*keepdim=*/true);
  return at::where(sum.gt(0), inside / sum, uniform);
}

// sum_t p log(p / q), where 0 log 0 = 0.
at::Tensor kl(const at::Tensor& p, const at::Tensor& q) {
  return at::where(p.gt(0), p * (p / q).log(), at::zeros_like(p)).sum(1);
}

}  // namespace

KnownAnswer known_answer(const at::Tensor& truth, const at::Tensor& attribution,
                         const at::Tensor& mask) {
  check_shape("truth", truth, mask.sizes());
  check_shape("attribution", attribution, mask.sizes());
  const auto check_values = [](const char* name, const at::Tensor& values) {
    check_finite(name, values.to(at::kDouble));
    const double least = values.min().item().toDouble();
    require(least >= 0, name, ">= 0", least);
  };
  check_values("truth", truth);
  check_values("attribution", attribution);
  const at::Tensor counts = truth.to(at::kDouble).mul(mask).sum(1).gt(0);
  require(counts.any().item<bool>(), "truth", "positive somewhere", "no row with a truth");
  const at::Tensor p = normalised(truth, mask).index({counts});
  const at::Tensor q = normalised(attribution, mask).index({counts});
  const at::Tensor m = (p + q) / 2;
  const at::Tensor kls = kl(p, q), jss = (kl(p, m) + kl(q, m)) / 2;
  return {kls.mean().item<double>(), jss.mean().item<double>(), p.size(0), kls, jss};
}

double r_precision(const at::Tensor& truth, const at::Tensor& attribution, const at::Tensor& mask) {
  check_shape("truth", truth, mask.sizes());
  check_shape("attribution", attribution, mask.sizes());
  check_finite("truth", truth.to(at::kDouble));
  check_finite("attribution", attribution.to(at::kDouble));
  const double least = truth.min().item().toDouble();
  require(least >= 0, "truth", ">= 0", least);
  const at::Tensor all = truth.gt(0).logical_and(mask), counts = all.any(1);
  require(counts.any().item<bool>(), "truth", "positive somewhere", "no row with a truth");
  const at::Tensor right = all.index({counts});
  const at::Tensor scores =
      attribution.to(at::kDouble).masked_fill(mask.logical_not(), -INFINITY).index({counts});
  const at::Tensor k = right.sum(1, /*keepdim=*/true);
  // The k-th highest score: what is above it is chosen, and of what is equal as many as are left.
  const at::Tensor least_chosen = std::get<0>(scores.sort(1, /*descending=*/true)).gather(1, k - 1);
  const at::Tensor above = scores.gt(least_chosen), equal = scores.eq(least_chosen);
  const at::Tensor share = (k - above.sum(1, true)) / equal.sum(1, true).to(at::kDouble);
  const at::Tensor chosen = above.to(at::kDouble) + equal.to(at::kDouble) * share;
  return (chosen * right).sum(1).div(k.squeeze(1)).mean().item<double>();
}

std::vector<SiteAnswer> site_answers(const at::Tensor& truth, const Attribution& attribution) {
  std::vector<SiteAnswer> answers;
  for (size_t depth = 0; depth < attribution.sites.size(); ++depth) {
    const at::Tensor scores = attribution.scores.select(2, static_cast<int64_t>(depth)).abs();
    answers.push_back({attribution.sites[depth], known_answer(truth, scores, attribution.mask),
                       r_precision(truth, scores, attribution.mask)});
  }
  return answers;
}

}  // namespace diffmask
