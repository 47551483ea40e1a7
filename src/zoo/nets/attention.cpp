#include "zoo/nets/attention.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <utility>

#include "diffmask/core/libtorch.hpp"
#include "diffmask/core/random.hpp"

namespace diffmask {

// LibTorch has a fused operator since 2.0, which is faster at most lengths, with gradients too
// (2.13, one thread, 32 x 12 heads of 32; forward + backward in ms for T = 16, 32, 64, 128: 1.4,
// 3.0, 12.4, 43.5, against 1.4, 4.0, 11.0, 51.7 for the products below). Its dropout draws from the
// global generator, so it is not used with dropout.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& mask, double dropped, at::Generator generator) {
#if DIFFMASK_TORCH_AT_LEAST(2, 0)
  if (dropped == 0) {
    if (!mask.defined()) return at::scaled_dot_product_attention(q, k, v);
    return at::scaled_dot_product_attention(q, k, v, mask.unsqueeze(1).unsqueeze(1));
  }
#endif
  const int64_t batch = q.size(0), heads = q.size(1), length = k.size(2), size = q.size(3);
  const auto flat = [&](const at::Tensor& t) {
    return t.reshape({batch * heads, t.size(2), size});
  };
  at::Tensor bias = at::zeros({1, 1, 1}, q.options());
  if (mask.defined()) {
    bias = at::zeros({batch, 1, 1, length}, q.options())
               .masked_fill_(mask.logical_not().view({batch, 1, 1, length}), -INFINITY)
               .expand({batch, heads, 1, length})
               .reshape({batch * heads, 1, length});
  }
  at::Tensor weights = at::baddbmm(bias, flat(q), flat(k).transpose(1, 2), /*beta=*/1,
                                   1 / std::sqrt(static_cast<double>(size)))
                           .softmax(-1);
  weights = dropped_out(weights, dropped, std::move(generator));
  return at::bmm(weights, flat(v)).view({batch, heads, q.size(2), size});
}

}  // namespace diffmask
