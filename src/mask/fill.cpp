#include "diffmask/mask/fill.hpp"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <fmt/format.h>

#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask::fill {
namespace {

// A site's Gaussian, in double precision.
struct Gaussian {
  at::Tensor mean, weight, root;  // mu (F), S_hc S_cc^-1 (F, 2F), and R of R R^T the covariance
};

// [h_{t-1}; h_{t+1}] of centred states, 0 beyond the ends.
at::Tensor neighbours(const at::Tensor& centred) {
  const at::Tensor padded = at::constant_pad_nd(centred, {0, 0, 1, 1});
  return at::cat({padded.slice(1, 0, -2), padded.slice(1, 2)}, 2);
}

Gaussian fitted(const std::string& site, const at::Tensor& states, const at::Tensor& mask) {
  const std::string name = fmt::format("states of '{}'", site);
  check_shape(name, states, {mask.size(0), mask.size(1), -1});
  check_finite(name, states);
  const at::Tensor h = states.to(at::kDouble);
  const at::Tensor mean = h.index({mask}).mean(0);
  const at::Tensor centred = (h - mean).masked_fill(mask.logical_not().unsqueeze(2), 0);
  const at::Tensor x = centred.index({mask}), c = neighbours(centred).index({mask});
  const auto count = static_cast<double>(x.size(0));
  const at::Tensor hc = at::matmul(x.t(), c) / count;
  // A pseudo-inverse: few examples leave directions without variance.
  const at::Tensor weight =
      at::matmul(hc, at::linalg_pinv(at::matmul(c.t(), c) / count, 1e-10, true));
  const auto [values, vectors] =
      at::linalg_eigh(at::matmul(x.t(), x) / count - at::matmul(weight, hc.t()));
  return {mean, weight, vectors * values.clamp_min(0).sqrt()};
}

// What stands in for a state, checked and spread to its shape.
at::Tensor checked(const at::Tensor& filled, const std::string& site, const at::Tensor& state) {
  const std::string name = fmt::format("fill of '{}'", site);
  require(filled.defined(), name, "a tensor", "an undefined one");
  require(at::is_expandable_to(filled.sizes(), state.sizes()), name,
          fmt::format("of a shape that broadcasts to {}", shape_string(state.sizes())),
          shape_string(filled.sizes()));
  return filled.to(state.options()).expand_as(state);
}

}  // namespace

at::Tensor zero(const std::string&, const at::Tensor& state) {
  return at::zeros({}, state.options());
}

Fill given(std::map<std::string, at::Tensor> tensors) {
  return [tensors = std::move(tensors)](const std::string& site, const at::Tensor& state) {
    const auto found = tensors.find(site);
    require(found != tensors.end(), "fill", "given for every site", site);
    return checked(found->second, site, state);
  };
}

Fill other_example(at::Generator generator) {
  return [generator](const std::string&, const at::Tensor& state) {
    require(state.size(0) > 1, "batch", "of two examples at least, to fill one from another",
            state.size(0));
    const at::Tensor order = at::randperm(state.size(0), generator, at::TensorOptions(at::kLong));
    // Row order[i] is filled from row order[i + 1]: never from itself.
    const at::Tensor from = at::empty_like(order).scatter(0, order, order.roll(-1));
    return state.index_select(0, from.to(state.device()));
  };
}

Fill conditional_gaussian(const std::map<std::string, at::Tensor>& states, const at::Tensor& mask,
                          at::Generator generator) {
  require(generator.defined(), "generator", "given", "none");
  check_shape("mask", mask, {-1, -1});
  check_dtype("mask", mask, at::kBool);
  require(mask.any().item<bool>(), "mask", "true at one position or more", "false at all");
  std::map<std::string, Gaussian> gaussians;
  for (const auto& [site, tensor] : states) gaussians[site] = fitted(site, tensor, mask);
  return [gaussians, generator](const std::string& site, const at::Tensor& state) {
    const auto found = gaussians.find(site);
    require(found != gaussians.end(), "states", "given for every site", site);
    const auto& [mean, weight, root] = found->second;
    check_shape(fmt::format("state at '{}'", site), state, {-1, -1, mean.size(0)});
    const at::Tensor centred = state.to(mean.options()) - mean;
    const at::Tensor noise = drawn_normal(state.sizes(), generator, mean.options());
    const at::Tensor drawn =
        mean + at::matmul(neighbours(centred), weight.t()) + at::matmul(noise, root.t());
    return drawn.to(state.options());
  };
}

at::Tensor value(const Fill& fill, const std::string& site, const at::Tensor& state) {
  require(fill != nullptr, "fill", "a function", "none");
  return checked(fill(site, state), site, state);
}

}  // namespace diffmask::fill
