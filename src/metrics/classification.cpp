#include "diffmask/metrics/classification.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

void check_labels(const at::Tensor& predicted, const at::Tensor& labels) {
  check_shape("labels", labels, {-1});
  check_shape("predicted", predicted, labels.sizes());
  check_dtype("labels", labels, at::kLong);
  check_dtype("predicted", predicted, at::kLong);
}

}  // namespace

double accuracy(const at::Tensor& predicted, const at::Tensor& labels) {
  check_labels(predicted, labels);
  return predicted.eq(labels).to(at::kDouble).mean().item<double>();
}

double macro_f1(const at::Tensor& predicted, const at::Tensor& labels, int64_t classes) {
  check_labels(predicted, labels);
  require(classes >= 1, "classes", ">= 1", classes);
  for (const auto& [name, values] :
       {std::pair("predicted", predicted), std::pair("labels", labels)}) {
    require(values.ge(0).logical_and(values.lt(classes)).all().item<bool>(), name,
            fmt::format("in [0, {})", classes),
            fmt::format("{} to {}", values.min().item<int64_t>(), values.max().item<int64_t>()));
  }
  const auto count = [](const at::Tensor& chosen) { return chosen.sum().item().toDouble(); };
  double sum = 0.0;
  for (int64_t c = 0; c < classes; ++c) {
    const double hits = count(predicted.eq(c).logical_and(labels.eq(c)));
    const double either = count(predicted.eq(c)) + count(labels.eq(c));
    if (either > 0) sum += 2 * hits / either;
  }
  return sum / static_cast<double>(classes);
}

}  // namespace diffmask
