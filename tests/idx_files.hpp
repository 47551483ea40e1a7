#pragma once
/// \file
/// IDX files made by hand, plain or compressed.

#include <zlib.h>

#include <string>
#include <vector>

namespace diffmask {

/// The magic number, sizes and values as the format lays them out.
inline std::string idx_of(uint8_t dtype, const std::vector<uint32_t>& sizes,
                          const std::string& values) {
  std::string bytes = {0, 0, static_cast<char>(dtype), static_cast<char>(sizes.size())};
  for (const uint32_t size : sizes) {
    for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(size >> shift);
  }
  return bytes + values;
}

/// The same bytes as a gzip file.
inline std::string gzipped(std::string bytes) {
  z_stream stream = {};
  deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

}  // namespace diffmask
