#include "diffmask/data/batch.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

namespace {

// `change` takes a tensor and the axis of its examples.
template <class Change>
Batch changed(const Batch& batch, const Change& change) {
  const auto of = [&](const at::Tensor& t) { return t.defined() ? change(t, 0) : t; };
  Batch result{{}, of(batch.mask), of(batch.examples), of(batch.labels), of(batch.groups)};
  for (size_t i = 0; i < batch.inputs.size(); ++i) {
    const at::Tensor& input = batch.inputs[i];
    result.inputs.push_back(input.defined() ? change(input, batch.axis(i)) : input);
  }
  result.axes = batch.axes;
  return result;
}

// Some of the examples of each input; those that all read whole stay as they are.
template <class Choose>
Batch chosen(const Batch& batch, bool all, const Choose& choose) {
  for (size_t i = 0; !all && i < batch.inputs.size(); ++i) {
    require(batch.axis(i) != Batch::kWhole, fmt::format("batch.inputs[{}]", i),
            "an input from which examples can be chosen: explain all of the batch at once, by a "
            "method that learns nothing or fits each batch, or name its examples' axis "
            "(Batch::axes)",
            shape_string(batch.inputs[i].sizes()));
  }
  return changed(batch,
                 [&](const at::Tensor& t, int64_t axis) { return axis < 0 ? t : choose(t, axis); });
}

}  // namespace

Batch Batch::to(c10::Device device) const {
  return changed(*this, [&](const at::Tensor& t, int64_t) { return t.to(device); });
}

Batch Batch::narrow(int64_t begin, int64_t size) const {
  return chosen(*this, begin == 0 && size == this->size(),
                [&](const at::Tensor& t, int64_t axis) { return t.narrow(axis, begin, size); });
}

Batch Batch::select(const at::Tensor& rows) const {
  const bool all = rows.equal(at::arange(size(), rows.options()));
  return chosen(*this, all,
                [&](const at::Tensor& t, int64_t axis) { return t.index_select(axis, rows); });
}

bool Batch::can_select() const { return std::find(axes.begin(), axes.end(), kWhole) == axes.end(); }

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
  require(axes.empty() || axes.size() == inputs.size(), "batch.axes",
          fmt::format("none, or one for each of {} inputs", inputs.size()), axes.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string name = fmt::format("batch.inputs[{}]", i);
    require(inputs[i].defined(), name, "defined", "an undefined tensor");
    if (axis(i) == kShared || axis(i) == kWhole) continue;
    require(axis(i) >= 0 && inputs[i].dim() > axis(i) && inputs[i].size(axis(i)) == size(), name,
            fmt::format("of {} examples, as batch.mask", size()),
            fmt::format("{} (Batch::axes names another axis than {}, or an input that all examples "
                        "share)",
                        shape_string(inputs[i].sizes()), axis(i)));
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
