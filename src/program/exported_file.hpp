#pragma once
/// \file
/// What a `.pt2` archive holds: the program as JSON, and its tensors; private.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace diffmask {

struct ExportedFile {
  std::string entry;  ///< of the program, for messages
  nlohmann::json program;
  std::map<std::string, at::Tensor> weights;    ///< parameters and buffers by name
  std::map<std::string, at::Tensor> constants;  ///< lifted tensors, buffers that are not persistent
};

/// Reads and checks the archive: schema version, dtypes, sizes, extents. FileError.
ExportedFile read_exported(const std::string& path, c10::Device device);

/// A JSON value of the wanted kind; json::exception, or Error, where it is another.
int64_t to_integer(const nlohmann::json& value);
const std::string& to_text(const nlohmann::json& value);

/// The one member of a union such as {"as_int": 3}: its key and value.
std::pair<const std::string&, const nlohmann::json&> only_member(const nlohmann::json& value);

/// LibTorch's dtype for the schema's number of it.
at::ScalarType to_dtype(const nlohmann::json& number);

/// Error where an object has a member that schema version 8.20 does not know.
void check_members(const nlohmann::json& object, std::initializer_list<const char*> known);

}  // namespace diffmask
