#include "diffmask/format/archive.hpp"

#include <fmt/format.h>
#include <zip.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"

namespace diffmask {
namespace {

constexpr uint64_t kLargestRatio = 10, kAlwaysAllowed = 16 << 20;

bool leaves_archive(const std::string& name) {
  const auto parts = split(name, '/');
  return name.starts_with('/') || name.find('\\') != std::string::npos ||
         std::find(parts.begin(), parts.end(), "..") != parts.end();
}

}  // namespace

ZipArchive::ZipArchive(const std::string& path) : path_(path) {
  std::error_code problem;
  const uint64_t file_size = std::filesystem::file_size(path, problem);
  if (problem) throw FileError(path, fmt::format("cannot be opened: {}", problem.message()));
  int code = 0;
  zip_ = {zip_open(path.c_str(), ZIP_RDONLY, &code), [](zip_t* zip) {
            if (zip) zip_discard(zip);
          }};
  if (!zip_) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string what = zip_error_strerror(&error);
    zip_error_fini(&error);
    throw FileError(path, fmt::format("is no zip archive, or a damaged one: {}", what));
  }
  const uint64_t limit = std::max(kLargestRatio * file_size, kAlwaysAllowed);
  uint64_t total = 0;
  const zip_int64_t count = zip_get_num_entries(zip_.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t stat;
    constexpr zip_uint64_t kWanted = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_ENCRYPTION_METHOD;
    if (zip_stat_index(zip_.get(), i, 0, &stat) != 0 || (stat.valid & kWanted) != kWanted) {
      throw FileError(path,
                      fmt::format("entry {} cannot be read: {}", i, zip_strerror(zip_.get())));
    }
    const std::string name = stat.name;
    if (leaves_archive(name)) {
      throw FileError(path, fmt::format("entry '{}' has a name that leaves the archive", name));
    }
    if (stat.encryption_method != ZIP_EM_NONE) {
      throw FileError(path, fmt::format("entry '{}' is encrypted", name));
    }
    if (__builtin_add_overflow(total, stat.size, &total) || total > limit) {
      throw FileError(path, fmt::format("entry '{}' of {} bytes: all entries together have to "
                                        "unpack to at most {} bytes",
                                        name, stat.size, limit));
    }
    if (name.ends_with('/')) continue;
    if (!entries_.emplace(name, stat.size).second) {
      throw FileError(path, fmt::format("entry '{}' is there twice", name));
    }
  }
}

uint64_t ZipArchive::size(const std::string& entry) const {
  const auto found = entries_.find(entry);
  if (found == entries_.end()) throw FileError(path_, fmt::format("has no entry '{}'", entry));
  return found->second;
}

void ZipArchive::read(const std::string& entry, void* memory) const {
  const uint64_t bytes = size(entry);
  const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file(
      zip_fopen(zip_.get(), entry.c_str(), 0), zip_fclose);
  const auto fail = [&](const char* what) {
    throw FileError(path_, fmt::format("entry '{}' cannot be read: {}", entry, what));
  };
  if (!file) fail(zip_strerror(zip_.get()));
  uint64_t done = 0;
  char surplus;  // reading on to the end is also what checks the checksum
  while (true) {
    const bool full = done == bytes;
    const zip_int64_t got = zip_fread(
        file.get(), full ? &surplus : static_cast<char*>(memory) + done, full ? 1 : bytes - done);
    if (got < 0) fail(zip_file_strerror(file.get()));
    if (got == 0) break;
    if (full) fail("it is longer than the directory says");
    done += static_cast<uint64_t>(got);
  }
  if (done != bytes) fail("it is shorter than the directory says");
}

std::string ZipArchive::text(const std::string& entry) const {
  std::string text(size(entry), '\0');
  read(entry, text.data());
  return text;
}

}  // namespace diffmask
