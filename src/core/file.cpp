#include "diffmask/core/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "diffmask/core/error.hpp"

namespace diffmask {

namespace fs = std::filesystem;

void write_file(const std::string& path, const std::function<void(std::ostream&)>& write) {
  static std::atomic<int64_t> writes = 0;  // two threads may write one path
  const std::string temporary = fmt::format("{}.{}.{}.tmp", path, ::getpid(), ++writes);
  try {
    errno = 0;
    std::ofstream out(temporary, std::ios::binary);
    if (!out) throw FileError(path, fmt::format("cannot be opened: {}", std::strerror(errno)));
    write(out);
    out.close();
    if (!out) throw FileError(path, fmt::format("cannot be written: {}", std::strerror(errno)));
    // The bytes have to be on the disk before the name is, or a power cut leaves an empty file.
    const int descriptor = ::open(temporary.c_str(), O_RDONLY);
    const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
    const int problem = errno;
    if (descriptor >= 0) ::close(descriptor);
    if (!synced) throw FileError(path, fmt::format("cannot be synced: {}", std::strerror(problem)));
    fs::rename(temporary, path);
  } catch (const fs::filesystem_error& error) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw FileError(path, fmt::format("cannot be replaced: {}", error.code().message()));
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

void write_file(const std::string& path, std::string_view text) {
  write_file(path, [&](std::ostream& out) { out << text; });
}

std::string read_file(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) throw FileError(path, "cannot be read: it is a folder");
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw FileError(path, fmt::format("cannot be opened: {}", std::strerror(errno)));
  std::ostringstream text;
  text << in.rdbuf();
  if (in.bad()) throw FileError(path, fmt::format("cannot be read: {}", std::strerror(errno)));
  return std::move(text).str();
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t end; (end = text.find(separator)) != std::string_view::npos;
       text.remove_prefix(end + 1)) {
    parts.emplace_back(text.substr(0, end));
  }
  parts.emplace_back(text);
  return parts;
}

std::vector<std::string> read_lines(const std::string& path) {
  const std::string text = read_file(path);
  std::string_view rest = text;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  std::vector<std::string> lines = split(rest, '\n');
  if (lines.back().empty()) lines.pop_back();
  for (std::string& line : lines) {
    if (line.ends_with('\r')) line.pop_back();
  }
  return lines;
}

}  // namespace diffmask
