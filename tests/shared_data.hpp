#pragma once
/// \file
/// Data that is too large or not free enough to be a part of the project.

#include <cstdlib>
#include <filesystem>
#include <string>

namespace diffmask {

/// A file of the folder DIFFMASK_DATA, or of ../shared/data; "" where it is not there.
inline std::string shared_data(const std::string& name) {
  const char* given = std::getenv("DIFFMASK_DATA");
  const char* source = std::getenv("DIFFMASK_SOURCE");
  const std::string folder =
      given ? std::string(given) : std::string(source ? source : ".") + "/../shared/data";
  const std::string path = folder + "/" + name;
  return std::filesystem::exists(path) ? path : "";
}

}  // namespace diffmask

/// Skips the test unless the file is there.
#define DIFFMASK_NEEDS_DATA(path, name)                 \
  const std::string path = diffmask::shared_data(name); \
  if (path.empty()) GTEST_SKIP() << "no " << name << " in the folder DIFFMASK_DATA"
