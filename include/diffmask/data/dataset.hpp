#pragma once
/// \file
/// Data sets: examples 0..N-1 that come as batches. Explainers, metrics and training read a model's
/// inputs only through this.
///
///     const PaddedDataset data({{tokens, /*is_sequence=*/true}}, lengths, labels);
///     const Batch batch = data.batch({4, 0, 2});             // padded to the longest of the three
///     const Subset first(borrowed(data), iota(100));         // a data set again
///
/// Data sets live on the CPU. Whoever runs a model moves each batch to the model's device:
/// data.batch(examples).to(model.device()).

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "diffmask/data/batch.hpp"

namespace diffmask {

/// To add a kind of data, implement these three.
class Dataset {
 public:
  virtual ~Dataset() = default;

  /// Number of examples, N.
  virtual int64_t size() const = 0;

  /// Number of positions of an example.
  virtual int64_t length(int64_t example) const = 0;

  /// These examples, padded to the longest of them.
  virtual Batch batch(const std::vector<int64_t>& examples) const = 0;

  /// The largest number of positions of any example.
  int64_t longest() const;
};

/// A pointer to `data` that does not own it, for a scope that `data` outlives. With it, what keeps
/// a shared pointer can read a data set that lives on the stack.
std::shared_ptr<const Dataset> borrowed(const Dataset& data);
std::shared_ptr<const Dataset> borrowed(const Dataset&& data) =
    delete;  // it would not outlive this

/// Sequences kept in memory as tensors padded to one length.
class PaddedDataset : public Dataset {
 public:
  struct Column {
    at::Tensor values;         ///< (N, ...), or (N, T, ...) for a sequence
    bool is_sequence = false;  ///< whether dimension 1 is cut to the longest example of a batch
  };

  /// The model's inputs are the columns in order, followed by the mask (B, T) if `mask_is_input`.
  /// ArgumentError for tensors that disagree in size or are not on the CPU.
  /// Shape: lengths (N) int64, each >= 1; labels (N), optional.
  PaddedDataset(std::vector<Column> columns, at::Tensor lengths, at::Tensor labels = {},
                bool mask_is_input = true);

  int64_t size() const override { return lengths_.size(0); }
  int64_t length(int64_t example) const override;
  Batch batch(const std::vector<int64_t>& examples) const override;

  const at::Tensor& lengths() const { return lengths_; }
  const at::Tensor& labels() const { return labels_; }

 private:
  std::vector<Column> columns_;
  at::Tensor lengths_, labels_;
  bool mask_is_input_;
};

/// Some examples of another data set, renumbered from 0 in the order given.
class Subset : public Dataset {
 public:
  /// ArgumentError if `examples` is empty or holds an index that is not in `data`.
  Subset(std::shared_ptr<const Dataset> data, std::vector<int64_t> examples);

  int64_t size() const override { return static_cast<int64_t>(examples_.size()); }
  int64_t length(int64_t example) const override { return data_->length(examples_.at(example)); }
  Batch batch(const std::vector<int64_t>& examples) const override;

 private:
  std::shared_ptr<const Dataset> data_;
  std::vector<int64_t> examples_;
};

/// The rows of one batch as a data set, numbered from 0. Each has all of the batch's positions.
/// Where examples cannot be chosen from an input (Batch::kWhole), it gives all of them at once, in
/// the batch's order, or an ArgumentError that names the input.
class BatchRows : public Dataset {
 public:
  explicit BatchRows(Batch all) : all_(std::move(all)) {}

  int64_t size() const override { return all_.size(); }
  int64_t length(int64_t) const override { return all_.mask.size(1); }
  Batch batch(const std::vector<int64_t>& examples) const override;

 private:
  Batch all_;
};

/// The indices 0..size-1.
std::vector<int64_t> iota(int64_t size);

/// The indices 0..size-1 in random order.
std::vector<int64_t> shuffled(int64_t size, at::Generator generator);

/// `count` of the indices 0..size-1, evenly spaced from 0 on: index i is i size / count, rounded
/// down. All of them where `count` is 0 or not less than `size`. For a part of the data that is the
/// same on every run. ArgumentError for a negative count.
std::vector<int64_t> evenly(int64_t size, int64_t count);

/// All examples, from the shortest to the longest; those of one length in their order.
std::vector<int64_t> by_length(const Dataset& data);

/// `order` cut into batches of `batch_size` >= 1; the last one may be smaller.
std::vector<std::vector<int64_t>> batches_of(const std::vector<int64_t>& order, int64_t batch_size);

/// `order`, of N examples, cut into n = ceil(N / batch_size) batches whose sizes differ by at most
/// one: batch i is order[i N / n .. (i + 1) N / n). For batches that are cut once and then drawn
/// equally often: with `batches_of`, 65 examples in batches of 64 would leave one example alone in
/// a batch that gets half of all draws.
std::vector<std::vector<int64_t>> even_batches(const std::vector<int64_t>& order,
                                               int64_t batch_size);

/// All examples in batches of similar lengths, which need little padding; the same batches each
/// time: batches_of(by_length(data), batch_size).
std::vector<std::vector<int64_t>> length_batches(const Dataset& data, int64_t batch_size);

/// One batch to stand for the data, e.g. to choose sizes or starting values by: of the n batches of
/// `even_batches(by_length(data), batch_size)`, the one of middling length, batch n / 2.
std::vector<int64_t> typical_batch(const Dataset& data, int64_t batch_size);

}  // namespace diffmask
