#pragma once
/// \file
/// Reads the IDX format: images and labels of the MNIST family, plain or compressed by gzip.
///
///     0 0 dtype n | size_0 ... size_{n-1} | values, the last dimension running fastest
///
/// The first four are one byte each, then come 32-bit sizes and the values, all big-endian. Source:
/// the format's description at http://yann.lecun.com/exdb/mnist. Files are not trusted: the dtype
/// and every size are checked against what the file can hold before memory is allocated for the
/// values; nothing may be missing at the end, and nothing may follow.
///
///     const at::Tensor images = load_idx("train-images-idx3-ubyte.gz");   // (N, H, W) uint8

#include <ATen/core/Tensor.h>

#include <string>

namespace diffmask {

/// The file's tensor, of uint8, int8, int16, int32, float or double, with n >= 1 dimensions of size
/// >= 1. FileError for a file that breaks any of these rules.
at::Tensor load_idx(const std::string& path);

}  // namespace diffmask
