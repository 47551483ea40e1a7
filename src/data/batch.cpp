#include "diffmask/data/batch.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <string>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

namespace {

template <class Change>
Batch changed(const Batch& batch, const Change& change) {
  const auto of = [&](const at::Tensor& t) { return t.defined() ? change(t) : t; };
  Batch result{{}, of(batch.mask), of(batch.examples), of(batch.labels), of(batch.groups)};
  for (const at::Tensor& input : batch.inputs) result.inputs.push_back(of(input));
  return result;
}

}  // namespace

Batch Batch::to(c10::Device device) const {
  return changed(*this, [&](const at::Tensor& t) { return t.to(device); });
}

Batch Batch::narrow(int64_t begin, int64_t size) const {
  return changed(*this, [&](const at::Tensor& t) { return t.narrow(0, begin, size); });
}

Batch Batch::select(const at::Tensor& rows) const {
  return changed(*this, [&](const at::Tensor& t) { return t.index_select(0, rows); });
}

void Batch::validate() const {
  require(!inputs.empty(), "batch.inputs", "at least one tensor", "none");
  require(mask.defined() && mask.dim() == 2, "batch.mask", "of shape (B, P)",
          mask.defined() ? shape_string(mask.sizes()) : "an undefined tensor");
  require(mask.size(0) > 0, "batch.mask", "of at least one example", shape_string(mask.sizes()));
  require(mask.size(1) > 0, "batch.mask", "of at least one position", shape_string(mask.sizes()));
  check_dtype("batch.mask", mask, at::kBool);
  const at::Tensor empty = mask.any(1).logical_not();
  if (empty.any().item<bool>()) {
    throw ArgumentError("batch.mask", "true at one position or more of every row",
                        fmt::format("only padding in row {}", empty.nonzero()[0].item<int64_t>()));
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string name = fmt::format("batch.inputs[{}]", i);
    require(inputs[i].defined(), name, "defined", "an undefined tensor");
    require(inputs[i].dim() > 0 && inputs[i].size(0) == size(), name,
            fmt::format("of {} examples, as batch.mask", size()), shape_string(inputs[i].sizes()));
  }
  if (examples.defined()) {
    check_shape("batch.examples", examples, {size()});
    check_dtype("batch.examples", examples, at::kLong);
  }
  require(!labels.defined() || (labels.dim() > 0 && labels.size(0) == size()), "batch.labels",
          fmt::format("of {} examples, as batch.mask", size()),
          labels.defined() ? shape_string(labels.sizes()) : "");
  if (groups.defined()) {
    check_shape("batch.groups", groups, mask.sizes());
    check_dtype("batch.groups", groups, at::kLong);
    require(groups.min().item<int64_t>() >= -1, "batch.groups", ">= -1",
            groups.min().item<int64_t>());
    require(groups.max().item<int64_t>() < groups.size(1), "batch.groups",
            fmt::format("< {}, the number of positions", groups.size(1)),
            groups.max().item<int64_t>());
  }
}

}  // namespace diffmask
