#include "diffmask/objective/target.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask::target {
namespace {

void check_classes(const at::Tensor& output) {
  require(output.dim() == 2, "output", "of shape (B, classes): any other needs a target of its own",
          shape_string(output.sizes()));
}

}  // namespace

at::Tensor predicted(const at::Tensor& output, const at::Tensor& original) {
  check_classes(output);
  check_shape("original", original, output.sizes());
  return output.gather(1, original.argmax(1, /*keepdim=*/true)).squeeze(1);
}

Target class_index(int64_t index) {
  return [index](const at::Tensor& output, const at::Tensor&) {
    check_classes(output);
    require(index >= 0 && index < output.size(1), "target",
            fmt::format("in 0..{}, the output's classes", output.size(1) - 1), index);
    return output.select(1, index);
  };
}

at::Tensor scalar(const at::Tensor& output, const at::Tensor&) {
  require(output.dim() == 1 || (output.dim() == 2 && output.size(1) == 1), "output",
          "of shape (B) or (B, 1): any other needs a target", shape_string(output.sizes()));
  return output.flatten();
}

Target log_probability(Target of) {
  return [of = std::move(of)](const at::Tensor& output, const at::Tensor& original) {
    check_classes(output);
    return of(at::log_softmax(output, 1), original);
  };
}

at::Tensor value(const Target& target, const at::Tensor& output, const at::Tensor& original) {
  require(target != nullptr, "target", "a function", "none");
  const at::Tensor result = target(output, original);
  check_shape("target(output, original)", result, {output.size(0)});
  check_finite("target(output, original)", result.detach());
  return result;
}

}  // namespace diffmask::target
