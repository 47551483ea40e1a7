#pragma once
/// \file
/// Data sets: numbered examples that come as batches.

#include <ATen/core/Generator.h>

#include <cstdint>
#include <vector>

#include "diffmask/data/batch.hpp"

namespace diffmask {

class Dataset {
 public:
  virtual ~Dataset() = default;

  /// Number of examples, N.
  virtual int64_t size() const = 0;

  /// Number of positions of an example; batches of like lengths waste little on padding.
  virtual int64_t length(int64_t example) const = 0;

  /// The examples of these numbers, padded to the longest.
  virtual Batch batch(const std::vector<int64_t>& examples) const = 0;

  /// The most positions an example has.
  int64_t longest() const;
};

/// Sequences kept in memory as tensors padded to one length.
class PaddedDataset : public Dataset {
 public:
  struct Column {
    at::Tensor values;         ///< (N, ...), or (N, T, ...) for a sequence
    bool is_sequence = false;  ///< cut to the longest example of a batch in dimension 1
  };

  /// The model's inputs are the columns in order, then, if asked for, the mask (B, T).
  /// Shape: lengths (N) int64 >= 1; labels (N), optional.
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

/// Some examples of another data set, numbered anew from 0. Keeps a reference to it.
class Subset : public Dataset {
 public:
  /// ArgumentError where a number is not one of the data set's, or there is none.
  Subset(const Dataset& data, std::vector<int64_t> examples);

  int64_t size() const override { return static_cast<int64_t>(examples_.size()); }
  int64_t length(int64_t example) const override { return data_.length(examples_.at(example)); }
  Batch batch(const std::vector<int64_t>& examples) const override;

 private:
  const Dataset& data_;
  std::vector<int64_t> examples_;
};

/// The numbers 0..size-1.
std::vector<int64_t> iota(int64_t size);

/// The numbers 0..size-1 in a random order.
std::vector<int64_t> shuffled(int64_t size, at::Generator generator);

/// `order` cut into batches, the last one maybe smaller.
std::vector<std::vector<int64_t>> batches_of(const std::vector<int64_t>& order, int64_t batch_size);

/// All examples in batches of like lengths, which waste little on padding; the same batches each
/// time.
std::vector<std::vector<int64_t>> length_batches(const Dataset& data, int64_t batch_size);

}  // namespace diffmask
