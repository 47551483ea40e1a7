#include "diffmask/data/dataset.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

void check_on_cpu(const std::string& name, const at::Tensor& tensor) {
  require(tensor.is_cpu(), name, "on the CPU (batches are moved to the model's device)",
          tensor.device().str());
}

}  // namespace

int64_t Dataset::longest() const {
  int64_t most = 0;
  for (int64_t i = 0; i < size(); ++i) most = std::max(most, length(i));
  return most;
}

std::shared_ptr<const Dataset> borrowed(const Dataset& data) {
  return {std::shared_ptr<const Dataset>(), &data};
}

PaddedDataset::PaddedDataset(std::vector<Column> columns, at::Tensor lengths, at::Tensor labels,
                             bool mask_is_input)
    : columns_(std::move(columns)),
      lengths_(std::move(lengths)),
      labels_(std::move(labels)),
      mask_is_input_(mask_is_input) {
  require(lengths_.defined() && lengths_.dim() == 1 && lengths_.scalar_type() == at::kLong,
          "lengths", "an int64 tensor of shape (N)",
          lengths_.defined() ? shape_string(lengths_.sizes()) : "an undefined tensor");
  check_on_cpu("lengths", lengths_);
  require(size() >= 1, "lengths", "of at least one example", size());
  lengths_ = lengths_.contiguous();  // length() reads it by pointer
  const int64_t shortest = lengths_.min().item<int64_t>();
  require(shortest >= 1, "lengths", ">= 1 (an empty sequence has nothing to explain)", shortest);
  for (size_t i = 0; i < columns_.size(); ++i) {
    const at::Tensor& values = columns_[i].values;
    const std::string name = fmt::format("columns[{}]", i);
    require(values.defined() && values.dim() >= 1 && values.size(0) == size(), name,
            fmt::format("of {} examples", size()),
            values.defined() ? shape_string(values.sizes()) : "an undefined tensor");
    check_on_cpu(name, values);
    require(!columns_[i].is_sequence ||
                (values.dim() >= 2 && values.size(1) >= lengths_.max().item<int64_t>()),
            name, "as long as the longest example", shape_string(values.sizes()));
  }
  if (!labels_.defined()) return;
  check_shape("labels", labels_, {size()});
  check_on_cpu("labels", labels_);
}

int64_t PaddedDataset::length(int64_t example) const {
  return lengths_.data_ptr<int64_t>()[example];
}

Batch PaddedDataset::batch(const std::vector<int64_t>& examples) const {
  require(!examples.empty(), "examples", "at least one", "none");
  for (const int64_t example : examples) {
    require(example >= 0 && example < size(), "examples", fmt::format("in 0..{}", size() - 1),
            example);
  }
  Batch batch;
  batch.examples = at::tensor(examples, at::kLong);
  const at::Tensor lengths = lengths_.index_select(0, batch.examples);
  const int64_t longest = lengths.max().item<int64_t>();
  batch.mask = at::arange(longest).unsqueeze(0).lt(lengths.unsqueeze(1));
  for (const Column& column : columns_) {
    const at::Tensor values = column.values.index_select(0, batch.examples);
    batch.inputs.push_back(column.is_sequence ? values.narrow(1, 0, longest).contiguous() : values);
  }
  if (mask_is_input_) batch.inputs.push_back(batch.mask);
  if (labels_.defined()) batch.labels = labels_.index_select(0, batch.examples);
  return batch;
}

Subset::Subset(std::shared_ptr<const Dataset> data, std::vector<int64_t> examples)
    : data_(std::move(data)), examples_(std::move(examples)) {
  require(data_ != nullptr, "data", "a data set", "a null pointer");
  require(!examples_.empty(), "examples", "at least one", "none");
  for (const int64_t example : examples_) {
    require(example >= 0 && example < data_->size(), "examples",
            fmt::format("in 0..{}", data_->size() - 1), example);
  }
}

Batch Subset::batch(const std::vector<int64_t>& examples) const {
  std::vector<int64_t> originals;
  for (const int64_t example : examples) originals.push_back(examples_.at(example));
  Batch batch = data_->batch(originals);
  batch.examples = at::tensor(examples, at::kLong);
  return batch;
}

Batch BatchRows::batch(const std::vector<int64_t>& examples) const {
  std::vector<int64_t> order = examples;
  if (!all_.can_select()) std::sort(order.begin(), order.end());  // all of them, as they lie there
  const at::Tensor rows = at::tensor(order, at::kLong).to(all_.mask.device());
  Batch batch = all_.select(rows);
  batch.examples = rows;
  return batch;
}

std::vector<int64_t> iota(int64_t size) {
  std::vector<int64_t> numbers(static_cast<size_t>(size));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

std::vector<int64_t> shuffled(int64_t size, at::Generator generator) {
  const at::Tensor order = at::randperm(size, std::move(generator));
  const int64_t* first = order.data_ptr<int64_t>();
  return {first, first + size};
}

std::vector<std::vector<int64_t>> batches_of(const std::vector<int64_t>& order,
                                             int64_t batch_size) {
  require(batch_size >= 1, "batch_size", ">= 1", batch_size);
  std::vector<std::vector<int64_t>> batches;
  for (auto begin = order.begin(); begin != order.end();) {
    const auto end = begin + std::min<int64_t>(batch_size, order.end() - begin);
    batches.emplace_back(begin, end);
    begin = end;
  }
  return batches;
}

std::vector<std::vector<int64_t>> even_batches(const std::vector<int64_t>& order,
                                               int64_t batch_size) {
  require(batch_size >= 1, "batch_size", ">= 1", batch_size);
  const auto size = static_cast<int64_t>(order.size());
  const int64_t count = size / batch_size + (size % batch_size == 0 ? 0 : 1);
  std::vector<std::vector<int64_t>> batches;
  for (int64_t i = 0; i < count; ++i) {
    batches.emplace_back(order.begin() + i * size / count, order.begin() + (i + 1) * size / count);
  }
  return batches;
}

std::vector<int64_t> evenly(int64_t size, int64_t count) {
  require(count >= 0, "count", ">= 0", count);
  if (count == 0 || count >= size) return iota(size);
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < count; ++i) chosen.push_back(i * size / count);
  return chosen;
}

std::vector<int64_t> by_length(const Dataset& data) {
  std::vector<int64_t> order = iota(data.size());
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return data.length(a) < data.length(b); });
  return order;
}

std::vector<std::vector<int64_t>> length_batches(const Dataset& data, int64_t batch_size) {
  require(data.size() >= 1, "data", "of at least one example", data.size());
  return batches_of(by_length(data), batch_size);
}

std::vector<int64_t> typical_batch(const Dataset& data, int64_t batch_size) {
  const auto batches = even_batches(by_length(data), batch_size);
  return batches[batches.size() / 2];
}

}  // namespace diffmask
