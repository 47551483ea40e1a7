#pragma once
/// \file
/// Files that are either whole or not there.

#include <functional>
#include <ostream>
#include <string>
#include <string_view>

namespace diffmask {

/// Writes a file under a temporary name beside `path`, then renames it: a reader sees the old file or
/// the whole new one. Throws FileError, and leaves the old file as it was, when anything fails.
void write_file(const std::string& path, const std::function<void(std::ostream&)>& write);
void write_file(const std::string& path, std::string_view text);

/// The whole text of a file; FileError when it cannot be read.
std::string read_file(const std::string& path);

}  // namespace diffmask
