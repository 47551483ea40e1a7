#pragma once
/// \file
/// A data set cut into batches whose recordings are kept: the model being frozen, its original pass
/// over a batch is the same in every epoch.

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/data/dataset.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

struct BatchOptions {
  int64_t batch_size = 64;  ///< examples a batch, >= 1
  bool by_length = false;   ///< batches of like lengths: faster, but a batch is no random sample
  int64_t cache_bytes = 512 << 20;  ///< recordings beyond this are made anew each time, >= 0

  void validate() const;
};

class RecordedBatches {
 public:
  struct Item {
    Batch batch;
    Recording recording;
  };

  /// Cuts the data once; with a generator in random order, or batches of like lengths. Data and
  /// model have to outlive this.
  RecordedBatches(const FrozenModel& model, const Dataset& data, std::vector<std::string> sites,
                  BatchOptions options, at::Generator generator = {});

  int64_t size() const { return static_cast<int64_t>(batches_.size()); }

  /// Batch number i and its recording, on the model's device.
  std::shared_ptr<const Item> at(int64_t i);

  /// Goes through all batches in a random order, then in another, ...
  std::shared_ptr<const Item> next(at::Generator generator);

 private:
  const FrozenModel& model_;
  const Dataset& data_;
  std::vector<std::string> sites_;
  std::vector<std::vector<int64_t>> batches_;
  std::vector<std::shared_ptr<const Item>> kept_;
  int64_t room_;
  std::vector<int64_t> order_;  // what is left of this epoch
};

}  // namespace diffmask
