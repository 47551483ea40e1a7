#pragma once
/// \file
/// A data set cut into batches whose recordings are kept: the model being frozen, its original pass
/// over a batch is the same in every epoch.
///
///     RecordedBatches batches(model, data, model.site_names(), {.batch_size = 64});
///     const auto item = batches.at(0);          // item->batch, item->recording

#include <ATen/core/Generator.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

struct BatchOptions {
  int64_t batch_size = 64;  ///< examples per batch at most, >= 1; all batches are about as large
  bool by_length = false;   ///< batches of like lengths: faster, but a batch is no random sample
  int64_t cache_bytes = 512 << 20;  ///< recordings beyond this are made anew each time, >= 0

  void validate() const {
    require(batch_size >= 1, "batch_size", ">= 1", batch_size);
    require(cache_bytes >= 0, "cache_bytes", ">= 0", cache_bytes);
  }
};

/// A batch on the model's device, and its recording.
struct RecordedBatch {
  Batch batch;
  Recording recording;
};

/// These examples, recorded at `sites`.
inline RecordedBatch recorded(const FrozenModel& model, const Dataset& data,
                              const std::vector<int64_t>& examples,
                              const std::vector<std::string>& sites) {
  RecordedBatch item;
  item.batch = data.batch(examples).to(model.device());
  item.batch.validate();
  item.recording = model.record(item.batch.inputs, sites);
  return item;
}

/// Refers to the model and the data, which have to outlive it; so it is neither copied nor moved.
class RecordedBatches {
 public:
  /// Cuts the data once into batches whose sizes differ by one at the most, so that each example is
  /// drawn about as often as any other: in random order with a generator, or by length.
  RecordedBatches(const FrozenModel& model, const Dataset& data, std::vector<std::string> sites,
                  BatchOptions options, at::Generator generator = {})
      : model_(model), data_(data), sites_(std::move(sites)), room_(options.cache_bytes) {
    options.validate();
    require(data.size() >= 1, "data", "of at least one example", data.size());
    const bool lengths_decide = options.by_length || !generator.defined();
    batches_ =
        even_batches(lengths_decide ? by_length(data) : shuffled(data.size(), std::move(generator)),
                     options.batch_size);
    kept_.resize(batches_.size());
  }

  RecordedBatches(const RecordedBatches&) = delete;
  RecordedBatches& operator=(const RecordedBatches&) = delete;

  int64_t size() const { return static_cast<int64_t>(batches_.size()); }

  /// Batch i and its recording.
  std::shared_ptr<const RecordedBatch> at(int64_t i) {
    const auto index = static_cast<size_t>(i);
    if (kept_.at(index)) return kept_[index];
    auto item =
        std::make_shared<const RecordedBatch>(recorded(model_, data_, batches_[index], sites_));
    if (const int64_t size = bytes(*item); size <= room_) {
      room_ -= size;
      kept_[index] = item;
    }
    return item;
  }

  /// Goes through all batches in a random order, then in another, ...
  std::shared_ptr<const RecordedBatch> next(at::Generator generator) {
    if (order_.empty()) order_ = shuffled(size(), std::move(generator));
    const int64_t i = order_.back();
    order_.pop_back();
    return at(i);
  }

 private:
  int64_t bytes(const RecordedBatch& item) const {
    auto total = static_cast<int64_t>(item.recording.output().nbytes());
    for (const std::string& site : sites_) {
      total += static_cast<int64_t>(item.recording.state(site).nbytes());
    }
    // Once in the batch, once in the recording.
    for (const at::Tensor& input : item.recording.inputs()) {
      total += 2 * static_cast<int64_t>(input.nbytes());
    }
    return total;
  }

  const FrozenModel& model_;
  const Dataset& data_;
  std::vector<std::string> sites_;
  std::vector<std::vector<int64_t>> batches_;
  std::vector<std::shared_ptr<const RecordedBatch>> kept_;
  int64_t room_;
  std::vector<int64_t> order_;  // what is left of this epoch
};

}  // namespace diffmask
