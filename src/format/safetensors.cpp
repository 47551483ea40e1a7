#include "diffmask/format/safetensors.hpp"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "format/file_kind.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

// The format's own limit; it also keeps a hostile length from making us reserve memory.
constexpr uint64_t kLargestHeader = 100'000'000;

const std::map<std::string, at::ScalarType>& dtypes() {
  static const std::map<std::string, at::ScalarType> known = {
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf},  {"BF16", at::kBFloat16},
      {"I64", at::kLong},   {"I32", at::kInt},   {"I16", at::kShort}, {"I8", at::kChar},
      {"U8", at::kByte},    {"BOOL", at::kBool}};
  return known;
}

// A file's bytes. The mapping is private: what is written there is this process's own copy.
class Mapping {
 public:
  explicit Mapping(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status = {};
    int problem = descriptor < 0 || ::fstat(descriptor, &status) != 0 ? errno : 0;
    if (problem == 0 && !S_ISREG(status.st_mode))
      problem = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    if (problem == 0 && status.st_size > 0) {  // no bytes cannot be mapped
      size_ = static_cast<uint64_t>(status.st_size);
      void* begin = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0);
      if (begin == MAP_FAILED) {
        problem = errno;
      } else {
        begin_ = static_cast<char*>(begin);
      }
    }
    if (descriptor >= 0) ::close(descriptor);
    if (problem != 0) {
      throw FileError(path, fmt::format("cannot be opened: {}", std::strerror(problem)));
    }
  }
  ~Mapping() {
    if (begin_ != nullptr) ::munmap(begin_, size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  char* begin() const { return begin_; }
  uint64_t size() const { return size_; }

 private:
  char* begin_ = nullptr;
  uint64_t size_ = 0;
};

// The header's object. nlohmann-json keeps the last of two equal keys, so that another reader may
// see another tensor under the same name than we do: such a header is refused.
json parse_header(const std::string& path, std::string_view text) {
  std::vector<std::set<std::string>> keys;  // of each object that is open
  const auto check = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed).second) {
      throw FileError(path, fmt::format("has a header with two entries {}", parsed.dump()));
    }
    return true;
  };
  json header = json::parse(text, check, /*allow_exceptions=*/false);
  if (!header.is_object()) throw FileError(path, "has a header that is not a JSON object");
  return header;
}

// A value in a message; dumping nested ones recurses, which a hostile header could drive off the
// stack.
std::string shown(const json& value) {
  const auto nests = [](const json& item) { return item.is_structured(); };
  const bool nested = value.is_structured() && std::any_of(value.begin(), value.end(), nests);
  return nested ? "nested values" : value.dump();
}

struct Entry {
  std::string name, dtype_name;
  at::ScalarType dtype;  // Undefined: one that is not read
  std::vector<int64_t> shape;
  uint64_t begin, end;
};

// A tensor's place in the data, checked: sizes >= 0 whose product does not overflow and, for a dtype
// that is read, a range of exactly that many bytes.
Entry parse_entry(const std::string& path, const std::string& name, const json& value) {
  const auto fail = [&](const std::string& problem) -> FileError {
    return {path, fmt::format("tensor '{}': {}", name, problem)};
  };
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    throw fail("has to have dtype, shape and data_offsets");
  }
  if (!value["dtype"].is_string()) throw fail("dtype has to be a string");
  const auto dtype = dtypes().find(value["dtype"].get<std::string>());
  const json& shape = value["shape"];
  const json& offsets = value["data_offsets"];
  const auto is_size = [](const json& j) { return j.is_number_unsigned(); };
  if (!shape.is_array() || !std::all_of(shape.begin(), shape.end(), is_size)) {
    throw fail(fmt::format("shape has to be a list of sizes, but got {}", shown(shape)));
  }
  if (!offsets.is_array() || offsets.size() != 2 ||
      !std::all_of(offsets.begin(), offsets.end(), is_size)) {
    throw fail(fmt::format("data_offsets has to be [begin, end], but got {}", shown(offsets)));
  }
  const bool is_read = dtype != dtypes().end();
  Entry entry{name, value["dtype"], is_read ? dtype->second : at::ScalarType::Undefined,
              {},   offsets[0],     offsets[1]};
  uint64_t bytes = is_read ? c10::elementSize(entry.dtype) : 1;
  uint64_t extent =
      bytes;  // what strides are computed from, where an empty dimension counts as one
  for (const json& size : shape) {
    entry.shape.push_back(size.get<int64_t>());
    bytes *= size.get<uint64_t>();
    if (__builtin_mul_overflow(extent, std::max<uint64_t>(size.get<uint64_t>(), 1), &extent) ||
        extent > INT64_MAX) {
      throw fail(fmt::format("shape {} overflows", shape.dump()));
    }
  }
  if (entry.end < entry.begin || (is_read && entry.end - entry.begin != bytes)) {
    throw fail(fmt::format("data_offsets [{}, {}] do not hold the {} bytes of its shape",
                           entry.begin, entry.end, bytes));
  }
  return entry;
}

// A view of the mapped bytes that keeps them mapped, or a copy where they lie at no multiple of
// their dtype's size, which the format allows.
at::Tensor view_of(const std::shared_ptr<const Mapping>& file, uint64_t offset,
                   const Entry& entry) {
  const at::TensorOptions options(entry.dtype);
  if (entry.begin == entry.end) return at::empty(entry.shape, options);
  char* data = file->begin() + offset + entry.begin;
  if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(entry.dtype) == 0) {
    return at::from_blob(
        data, entry.shape, [file](void*) {}, options);
  }
  at::Tensor copy = at::empty(entry.shape, options);
  std::memcpy(copy.data_ptr(), data, entry.end - entry.begin);
  return copy;
}

}  // namespace

const at::Tensor& Safetensors::at(const std::string& name) const {
  const auto found = tensors.find(name);
  if (found != tensors.end()) return found->second;
  const auto other = unread.find(name);
  if (other != unread.end()) {
    throw FileError(path, fmt::format("tensor '{}': dtype {} is not supported", name,
                                      json(other->second).dump()));
  }
  std::vector<std::string> names;
  for (const auto& [known, tensor] : tensors) names.push_back(known);
  throw FileError(path, fmt::format("has no tensor {}", with_nearest(name, names)));
}

namespace {

// Says what the file is, where that is known.
FileError not_safetensors(const std::string& path, const std::string& problem) {
  const std::string kind = known_kind(path);
  if (kind.empty()) return {path, "is truncated or no safetensors file: " + problem};
  return {path, fmt::format("is no safetensors file: it {} ({})", kind, problem)};
}

}  // namespace

Safetensors load_safetensors(const std::string& path) {
  const auto file = std::make_shared<const Mapping>(path);
  uint64_t header_size = 0;
  if (file->size() < sizeof header_size) {
    throw not_safetensors(path, fmt::format("it has {} bytes", file->size()));
  }
  std::memcpy(&header_size, file->begin(), sizeof header_size);
  if (header_size > kLargestHeader || header_size > file->size() - sizeof header_size) {
    throw not_safetensors(
        path, fmt::format("its header of {} bytes does not fit the file's {} bytes", header_size,
                          file->size()));
  }
  const json header = parse_header(path, {file->begin() + sizeof header_size, header_size});

  Safetensors result;
  result.path = path;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(parse_entry(path, name, value));
      continue;
    }
    if (!value.is_object()) throw FileError(path, "__metadata__ has to be an object");
    for (const auto& [key, item] : value.items()) {
      if (!item.is_string())
        throw FileError(path, fmt::format("__metadata__ '{}' has to be text", key));
      result.metadata[key] = item.get<std::string>();
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  const uint64_t data_begin = sizeof header_size + header_size;
  const uint64_t data_size = file->size() - data_begin;
  uint64_t expected = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != expected) {
      throw FileError(path, fmt::format("tensor '{}' begins at byte {} of the data, not at {}: "
                                        "ranges overlap or leave a hole",
                                        entry.name, entry.begin, expected));
    }
    expected = entry.end;
  }
  if (expected != data_size) {
    throw FileError(path, fmt::format("is truncated or has surplus bytes: the header describes {} "
                                      "bytes of data, the file holds {}",
                                      expected, data_size));
  }
  for (const Entry& entry : entries) {
    if (entry.dtype == at::ScalarType::Undefined) {
      result.unread.emplace(entry.name, entry.dtype_name);
    } else {
      result.tensors.emplace(entry.name, view_of(file, data_begin, entry));
    }
  }
  return result;
}

void save_safetensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<at::Tensor> data;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    require(tensor.defined(), fmt::format("tensors['{}']", name), "defined", "an undefined tensor");
    const auto dtype = std::find_if(
        dtypes().begin(), dtypes().end(),
        [dtype = tensor.scalar_type()](const auto& known) { return known.second == dtype; });
    require(dtype != dtypes().end(), fmt::format("tensors['{}']", name),
            "of a dtype that safetensors knows", c10::toString(tensor.scalar_type()));
    data.push_back(tensor.detach().to(at::kCPU).contiguous());
    const uint64_t end = offset + data.back().nbytes();
    header[name] = {
        {"dtype", dtype->first}, {"shape", tensor.sizes().vec()}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::type_error& error) {
    throw ArgumentError("tensors' names and metadata", "UTF-8 text", error.what());
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the format aligns the data to 8 bytes
  write_file(path, [&](std::ostream& out) {
    const uint64_t size = text.size();
    out.write(reinterpret_cast<const char*>(&size), sizeof size) << text;
    for (const at::Tensor& tensor : data) {
      out.write(static_cast<const char*>(tensor.data_ptr()),
                static_cast<std::streamsize>(tensor.nbytes()));
    }
  });
}

}  // namespace diffmask
