#include "diffmask/mask/fill.hpp"

#include <ATen/ExpandUtils.h>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask::fill {
namespace {

bool broadcasts(at::IntArrayRef from, at::IntArrayRef to) {
  if (from.size() > to.size()) return false;
  for (size_t i = 1; i <= from.size(); ++i) {
    const int64_t size = from[from.size() - i];
    if (size != 1 && size != to[to.size() - i]) return false;
  }
  return true;
}

}  // namespace

at::Tensor zero(const std::string&, const at::Tensor& state) {
  return at::zeros({}, state.options());
}

Fill given(std::map<std::string, at::Tensor> tensors) {
  return [tensors = std::move(tensors)](const std::string& site, const at::Tensor& state) {
    const auto found = tensors.find(site);
    require(found != tensors.end(), "fill", "given for every site", site);
    require(broadcasts(found->second.sizes(), state.sizes()), fmt::format("fill of '{}'", site),
            fmt::format("of a shape that broadcasts to {}", shape_string(state.sizes())),
            shape_string(found->second.sizes()));
    return found->second.to(state.options());
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

}  // namespace diffmask::fill
