#pragma once
/// \file
/// The counting task of De Cao et al. 2020 (section 4.1), whose true attribution is known: are
/// there more n than m among the digits?
///
/// An example is a query (n, m) of two different digits, and 1 to 10 digits: each is n or m with
/// probability 1/4 each, and any of the other eight with 1/16. The label is 1 iff #n > #m. The
/// positions that hold n or m decide, all equally.
///
///     const CountingData data = make_counting(9000, make_generator(seed));
///     const PaddedDataset training = data.dataset();
///     const at::Tensor truth = data.relevant();

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

  /// As a data set with inputs digits (B, T), queries (B, 2) and mask (B, T).
  PaddedDataset dataset() const;

  /// (N, 10) bool: the positions that hold n or m.
  at::Tensor relevant() const;
};

/// Draws `size` >= 1 examples.
CountingData make_counting(int64_t size, at::Generator generator);

/// Reads the rows `split,n,m,length,label,x0,...,x9` of one split. FileError names a broken line.
CountingData read_counting(const std::string& path, const std::string& split);

}  // namespace diffmask
