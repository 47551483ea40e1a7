#include "diffmask/metrics/known_answer.hpp"

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
  return {kl(p, q).mean().item<double>(), ((kl(p, m) + kl(q, m)) / 2).mean().item<double>(),
          p.size(0)};
}

}  // namespace diffmask
