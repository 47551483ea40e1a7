#include "diffmask/train/recorded_batches.hpp"

#include <ATen/ATen.h>

#include <numeric>
#include <utility>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

int64_t bytes(const RecordedBatches::Item& item, const std::vector<std::string>& sites) {
  int64_t total = static_cast<int64_t>(item.recording.output().nbytes());
  for (const std::string& site : sites) total += item.recording.state(site).nbytes();
  for (const at::Tensor& input : item.recording.inputs()) total += 2 * input.nbytes();
  return total;
}

}  // namespace

void BatchOptions::validate() const {
  require(batch_size >= 1, "batch_size", ">= 1", batch_size);
  require(cache_bytes >= 0, "cache_bytes", ">= 0", cache_bytes);
}

RecordedBatches::RecordedBatches(const FrozenModel& model, const Dataset& data,
                                 std::vector<std::string> sites, BatchOptions options,
                                 at::Generator generator)
    : model_(model), data_(data), sites_(std::move(sites)), room_(options.cache_bytes) {
  options.validate();
  require(data.size() >= 1, "data", "of at least one example", data.size());
  if (options.by_length || !generator.defined()) {
    batches_ = length_batches(data, options.batch_size);
  } else {
    batches_ = batches_of(shuffled(data.size(), std::move(generator)), options.batch_size);
  }
  kept_.resize(batches_.size());
}

std::shared_ptr<const RecordedBatches::Item> RecordedBatches::at(int64_t i) {
  const auto index = static_cast<size_t>(i);
  if (kept_.at(index)) return kept_[index];
  auto item = std::make_shared<Item>();
  item->batch = data_.batch(batches_[index]).to(model_.device());
  item->batch.validate();
  item->recording = model_.record(item->batch.inputs, sites_);
  if (const int64_t size = bytes(*item, sites_); size <= room_) {
    room_ -= size;
    kept_[index] = item;
  }
  return item;
}

std::shared_ptr<const RecordedBatches::Item> RecordedBatches::next(at::Generator generator) {
  if (order_.empty()) order_ = shuffled(size(), std::move(generator));
  const int64_t i = order_.back();
  order_.pop_back();
  return at(i);
}

}  // namespace diffmask
