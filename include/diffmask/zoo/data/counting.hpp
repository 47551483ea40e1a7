#pragma once
/// \file
/// The counting task of De Cao et al. 2020 (section 4.1), whose true attribution is known: are
/// there more n than m among the digits?
///
/// A query (n, m) of two different digits; 1 to 10 digits, each with probability 1/4 the one, with
/// 1/4 the other query digit, and any of the other eight with 1/16; the label is 1 iff #n > #m.
/// What decides are the positions that hold n or m, all alike.

#include <ATen/core/Generator.h>

#include <cstdint>
#include <string>

#include "diffmask/data/dataset.hpp"

namespace diffmask {

struct CountingData {
  at::Tensor queries;  ///< (N, 2) int64: n, m
  at::Tensor digits;   ///< (N, 10) int64, 0 where padded
  at::Tensor lengths;  ///< (N) int64
  at::Tensor labels;   ///< (N) int64, 0 or 1

  int64_t size() const { return labels.size(0); }

  /// As a data set whose inputs are digits (B, T), queries (B, 2) and mask (B, T).
  PaddedDataset dataset() const;

  /// (N, 10) bool: the positions that hold n or m.
  at::Tensor relevant() const;
};

/// Draws `size` examples.
CountingData make_counting(int64_t size, at::Generator generator);

/// Reads `split,n,m,length,label,x0,...,x9` rows of one split. FileError names a broken line.
CountingData read_counting(const std::string& path, const std::string& split);

}  // namespace diffmask
