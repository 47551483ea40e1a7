#pragma once
/// \file
/// Files that are either whole or not there.

#include <functional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace diffmask {

/// Writes a file under a temporary name beside `path`, then renames it: a reader sees the old file
/// or the whole new one. Throws FileError, and leaves the old file as it was, when anything fails.
void write_file(const std::string& path, const std::function<void(std::ostream&)>& write);
void write_file(const std::string& path, std::string_view text);

/// The whole text of a file; FileError when it cannot be read.
std::string read_file(const std::string& path);

/// The lines of a text file, without their ends (LF or CR LF) and without a byte order mark.
std::vector<std::string> read_lines(const std::string& path);

/// What stands between the separators: one more than there are of these.
std::vector<std::string> split(std::string_view text, char separator);

}  // namespace diffmask
