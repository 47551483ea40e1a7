#pragma once
/// \file
/// The library's version. CMake reads it from here.
///
///     #if DIFFMASK_VERSION_MAJOR == 0 && DIFFMASK_VERSION_MINOR < 2
///     fmt::print("DiffMask {}\n", diffmask::version());

#define DIFFMASK_VERSION_MAJOR 0
#define DIFFMASK_VERSION_MINOR 2
#define DIFFMASK_VERSION_PATCH 0

#include <string>

namespace diffmask {

/// "0.2.0": major, minor and patch of the headers that this unit was compiled with.
inline std::string version() {
  return std::to_string(DIFFMASK_VERSION_MAJOR) + "." + std::to_string(DIFFMASK_VERSION_MINOR) +
         "." + std::to_string(DIFFMASK_VERSION_PATCH);
}

}  // namespace diffmask
