#include "diffmask/zoo/data/idx.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"

namespace diffmask {
namespace {

// Deflate makes at most 1032 bytes of one (zlib.net/zlib_tech.html).
constexpr uint64_t kMostUnpacked = 1032;

const std::map<uint8_t, at::ScalarType>& idx_dtypes() {
  static const std::map<uint8_t, at::ScalarType> known = {{0x08, at::kByte},  {0x09, at::kChar},
                                                          {0x0B, at::kShort}, {0x0C, at::kInt},
                                                          {0x0D, at::kFloat}, {0x0E, at::kDouble}};
  return known;
}

// A file's bytes in order, unpacked if it is compressed.
class Bytes {
 public:
  explicit Bytes(const std::string& path) : path_(path), file_(read_file(path)) {
    packed_ = file_.starts_with("\x1f\x8b");
    stream_.next_in = reinterpret_cast<Bytef*>(file_.data());
    // Files of 4 GB and more would need their input cut; no data set of this format comes near.
    if (file_.size() > UINT32_MAX) fail("is larger than 4 GB");
    stream_.avail_in = static_cast<uInt>(file_.size());
    constexpr int kGzip = 16 + MAX_WBITS;
    if (packed_ && inflateInit2(&stream_, kGzip) != Z_OK) fail("cannot be unpacked: no memory");
  }
  ~Bytes() {
    if (packed_) inflateEnd(&stream_);
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;

  // An upper bound of the bytes that can be read.
  uint64_t most() const { return file_.size() * (packed_ ? kMostUnpacked : 1); }

  // Reads up to `size` bytes; returns how many it read.
  uint64_t read(void* memory, uint64_t size) {
    auto* to = static_cast<Bytef*>(memory);
    uint64_t done = 0;
    while (done < size && !ended_) {
      stream_.next_out = to + done;
      stream_.avail_out = static_cast<uInt>(std::min<uint64_t>(size - done, UINT32_MAX));
      const uInt room = stream_.avail_out;
      packed_ ? unpack() : copy();
      done += room - stream_.avail_out;
    }
    return done;
  }

  // Throws unless nothing is left. Reads on, so that the checksum is checked too.
  void finish() {
    char more = 0;
    if (read(&more, 1) > 0 || stream_.avail_in > 0) fail("has bytes after its values");
  }

  [[noreturn]] void fail(const std::string& problem) const { throw FileError(path_, problem); }

 private:
  void unpack() {
    const int status = inflate(&stream_, Z_NO_FLUSH);
    ended_ = status == Z_STREAM_END;
    if (status == Z_BUF_ERROR) fail("ends within its compressed data");
    if (status != Z_OK && !ended_) {
      fail(fmt::format("cannot be unpacked: {}", stream_.msg ? stream_.msg : zError(status)));
    }
  }

  void copy() {
    const uInt count = std::min(stream_.avail_in, stream_.avail_out);
    std::memcpy(stream_.next_out, stream_.next_in, count);
    stream_.next_in += count;
    stream_.avail_in -= count;
    stream_.avail_out -= count;
    ended_ = stream_.avail_in == 0;
  }

  std::string path_, file_;
  z_stream stream_ = {};
  bool packed_ = false, ended_ = false;
};

struct Header {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t bytes;  // that the values take
};

Header read_header(Bytes& file) {
  std::array<uint8_t, 4> magic = {};
  if (file.read(magic.data(), 4) < 4) file.fail("is too short to be an IDX file");
  if (magic[0] != 0 || magic[1] != 0) {
    file.fail(fmt::format("is no IDX file: it has to begin with two bytes 0, but got {} {}",
                          magic[0], magic[1]));
  }
  const auto dtype = idx_dtypes().find(magic[2]);
  if (dtype == idx_dtypes().end()) {
    file.fail(
        fmt::format("dtype has to be one of 0x08, 0x09, 0x0b to 0x0e, but got {:#04x}", magic[2]));
  }
  if (magic[3] == 0) file.fail("has to have one dimension or more, but got 0");
  Header header{dtype->second, {}, c10::elementSize(dtype->second)};
  for (int d = 0; d < magic[3]; ++d) {
    std::array<uint8_t, 4> b = {};
    if (file.read(b.data(), 4) < 4)
      file.fail(fmt::format("ends before the size of dimension {}", d));
    const uint32_t size = uint32_t{b[0]} << 24 | uint32_t{b[1]} << 16 | uint32_t{b[2]} << 8 | b[3];
    if (size == 0) file.fail(fmt::format("dimension {} has to be of size >= 1, but got 0", d));
    header.shape.push_back(size);
    if (__builtin_mul_overflow(header.bytes, uint64_t{size}, &header.bytes)) {
      file.fail(
          fmt::format("has sizes whose product overflows: {}", fmt::join(header.shape, " x ")));
    }
  }
  return header;
}

}  // namespace

at::Tensor load_idx(const std::string& path) {
  Bytes file(path);
  const Header header = read_header(file);
  const auto fail_short = [&](const std::string& got) {
    file.fail(fmt::format("sizes {} need {} bytes of values, but there are {}",
                          fmt::join(header.shape, " x "), header.bytes, got));
  };
  if (header.bytes > file.most()) fail_short(fmt::format("no more than {}", file.most()));
  const auto width = static_cast<int64_t>(c10::elementSize(header.dtype));
  const auto bytes = static_cast<int64_t>(header.bytes);
  at::Tensor values = at::empty({bytes / width, width}, at::kByte);
  const uint64_t got = file.read(values.data_ptr(), header.bytes);
  if (got < header.bytes) fail_short(std::to_string(got));
  file.finish();
  if (width > 1) values = values.flip(1);  // from big-endian
  return values.contiguous().view(header.dtype).view(header.shape);
}

}  // namespace diffmask
