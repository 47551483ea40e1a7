#pragma once
/// \file
/// The IDX format: the MNIST family's images and labels, plain or compressed by gzip.
///
///     0 0 dtype n | size_0 ... size_{n-1} | values, the last dimension running fastest
///
/// one byte each of the first four, then 32-bit sizes and values, all big-endian. Source: the
/// format's description at http://yann.lecun.com/exdb/mnist. Files are read with suspicion: the
/// dtype and every size are checked, and what they promise against what the file can hold, before
/// memory is taken for the values; nothing may be missing at the end, and nothing may follow.

#include <ATen/core/Tensor.h>

#include <string>

namespace diffmask {

/// The file's tensor, of uint8, int8, int16, int32, float or double, with n >= 1 dimensions of size
/// >= 1. Throws FileError on anything amiss.
at::Tensor load_idx(const std::string& path);

}  // namespace diffmask
