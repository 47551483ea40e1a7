#pragma once
/// \file
/// Zip archives, read with suspicion: what models from files come in.
///
/// Before a byte is unpacked, the directory is checked: no entry is encrypted or leaves the archive
/// by its name, and all entries together unpack to no more than 10 times the file's size (or 16 MiB
/// for small files), so that a compression bomb costs nothing. Checksums are checked on reading.
/// Nothing is ever written to disk.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

struct zip;

namespace diffmask {

class ZipArchive {
 public:
  /// FileError for what cannot be opened, is no zip, or breaks a rule above.
  explicit ZipArchive(const std::string& path);

  const std::string& path() const { return path_; }

  /// Every entry and its size in bytes, folders left out.
  const std::map<std::string, uint64_t>& entries() const { return entries_; }
  bool has(const std::string& entry) const { return entries_.contains(entry); }

  /// The size of an entry; FileError where there is none of this name.
  uint64_t size(const std::string& entry) const;

  /// Unpacks a whole entry into `memory`, which holds size(entry) bytes.
  void read(const std::string& entry, void* memory) const;
  std::string text(const std::string& entry) const;

 private:
  std::string path_;
  std::shared_ptr<struct zip> zip_;
  std::map<std::string, uint64_t> entries_;
};

}  // namespace diffmask
