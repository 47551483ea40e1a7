#pragma once
/// \file
/// The safetensors format: an 8-byte little-endian header length, a JSON header, the tensors'
/// bytes.
///
///     { "__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets":
///     [0, 24]} }
///
/// Source: the format's description at https://github.com/huggingface/safetensors. Files are read
/// with suspicion: the header's size, every dtype, shape and offset are checked against the file's
/// length before a byte of data is touched, no key may stand twice, and the ranges have to cover
/// the data without holes or overlaps.

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace diffmask {

struct Safetensors {
  std::map<std::string, at::Tensor> tensors;    ///< on the CPU
  std::map<std::string, std::string> metadata;  ///< the header's "__metadata__"

  /// Tensors of dtypes that are not read (F8_E4M3, U32, C64, ...), which spoil nothing as long as
  /// nobody asks for them: each name's dtype.
  std::map<std::string, std::string> unread = {};

  /// The tensor of this name; FileError with the nearest names when it is not there, or with its
  /// dtype when that is not read.
  const at::Tensor& at(const std::string& name) const;

  /// Whether the file has a tensor of this name, of any dtype.
  bool has(const std::string& name) const {
    return tensors.contains(name) || unread.contains(name);
  }

  std::string path;  ///< where it was read, for messages
};

/// Maps the file: a tensor's bytes are read when they are first used, and the file stays mapped
/// until the last tensor is gone. Until then it must not be changed in place (a file that is cut
/// short ends the program); to replace it by a rename, as save_safetensors does, is safe. Tensors
/// may be written to: the file never sees that. Reads F64, F32, F16, BF16, I64, I32, I16, I8, U8
/// and BOOL; tensors of other dtypes are left unread. Throws FileError on anything amiss.
Safetensors load_safetensors(const std::string& path);

/// Writes under a temporary name, then renames. Tensors may lie on any device; they are stored
/// contiguously.
void save_safetensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace diffmask
