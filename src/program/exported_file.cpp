#include "program/exported_file.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/format/archive.hpp"
#include "diffmask/program/exported.hpp"
#include "format/file_kind.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

constexpr int64_t kMajor = 8;
constexpr int kDeepestJson = 1000;

// "NAME/models/model.json" -> "NAME/"; the folder that torch puts everything in.
std::string program_entry(const ZipArchive& archive) {
  std::string found;
  for (const auto& [name, size] : archive.entries()) {
    const size_t at = name.find("models/");
    const bool is_program = at != std::string::npos && (at == 0 || name[at - 1] == '/') &&
                            name.find('/', at + 7) == std::string::npos && name.ends_with(".json");
    if (is_program && (found.empty() || name.ends_with("models/model.json"))) found = name;
  }
  return found;
}

// Values are copied and shown recursively later, which deeper ones could drive off the stack.
json parse(const ZipArchive& archive, const std::string& entry) {
  const auto limit = [&](int depth, json::parse_event_t, json&) {
    if (depth <= kDeepestJson) return true;
    throw FileError(archive.path(), fmt::format("{}: has to nest at most {} deep, but got more",
                                                entry, kDeepestJson));
  };
  json value = json::parse(archive.text(entry), limit, /*allow_exceptions=*/false);
  if (!value.is_object()) {
    throw FileError(archive.path(), fmt::format("{}: has to be a JSON object", entry));
  }
  return value;
}

std::vector<int64_t> sizes_of(const json& list) {
  std::vector<int64_t> sizes;
  for (const json& size : list) {
    sizes.push_back(to_integer(size.at("as_int")));
    require(sizes.back() >= 0, "a stored tensor's size or stride", ">= 0", sizes.back());
  }
  return sizes;
}

// The number of elements that a strided view reaches over, from its storage's begin.
int64_t extent(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
               int64_t offset) {
  int64_t last = offset;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) return 0;
    int64_t reach = 0;
    if (__builtin_mul_overflow(sizes[i] - 1, strides[i], &reach) ||
        __builtin_add_overflow(last, reach, &last)) {
      throw Error(fmt::format("sizes {} with strides {} overflow", shape_string(sizes),
                              shape_string(strides)));
    }
  }
  if (last == INT64_MAX) throw Error("storage_offset overflows");
  return last + 1;
}

// One folder of tensors: data/weights with model_weights_config.json, or data/constants.
std::map<std::string, at::Tensor> read_tensors(const ZipArchive& archive, const std::string& folder,
                                               const std::string& config, c10::Device device) {
  std::map<std::string, at::Tensor> tensors, storages;
  const std::string entry = folder + config;
  if (!archive.has(entry)) return tensors;
  const json described = parse(archive, entry);
  std::string name;
  try {
    check_members(described, {"config"});
    for (const auto& [key, payload] : described.at("config").items()) {
      name = key;
      check_members(payload, {"path_name", "is_param", "use_pickle", "tensor_meta"});
      if (payload.at("use_pickle").get<bool>()) {
        throw Error("is stored as a Python pickle, which is not read");
      }
      const json& meta = payload.at("tensor_meta");
      check_members(meta, {"dtype", "sizes", "requires_grad", "device", "strides", "storage_offset",
                           "layout"});
      const auto options = at::TensorOptions(to_dtype(meta.at("dtype")));
      const auto sizes = sizes_of(meta.at("sizes")), strides = sizes_of(meta.at("strides"));
      const int64_t offset = sizes_of(json::array({meta.at("storage_offset")})).at(0);
      require(sizes.size() == strides.size(), "strides", "one a size", strides.size());
      require(to_integer(meta.at("layout")) == 7, "layout", "strided (7)",
              meta.at("layout").dump());
      const std::string data = folder + to_text(payload.at("path_name"));
      const auto bytes = static_cast<int64_t>(archive.size(data));
      const auto item =
          static_cast<int64_t>(c10::elementSize(at::typeMetaToScalarType(options.dtype())));
      const int64_t elements = extent(sizes, strides, offset);
      if (elements > bytes / item) {
        throw Error(fmt::format(
            "of sizes {}, strides {} and offset {} needs {} elements of {} "
            "bytes, but '{}' holds {} bytes",
            shape_string(sizes), shape_string(strides), offset, elements, item, data, bytes));
      }
      at::Tensor& storage = storages[data];  // tied weights are one entry
      if (!storage.defined()) {
        storage = at::empty({bytes}, at::TensorOptions(at::kByte));
        archive.read(data, storage.data_ptr());
        storage = storage.to(device);
      }
      tensors[name] =
          at::empty({0}, options.device(device)).set_(storage.storage(), offset, sizes, strides);
    }
  } catch (const FileError&) {
    throw;
  } catch (const std::exception& error) {
    throw FileError(archive.path(), fmt::format("{}: tensor '{}': {}", entry, name, error.what()));
  }
  return tensors;
}

void check_version(const json& program) {
  const int64_t major = to_integer(program.at("schema_version").at("major"));
  require(major == kMajor, "schema_version",
          fmt::format("{} (what torch 2.13 writes: export the model with it)", kMajor), major);
}

}  // namespace

int64_t to_integer(const json& value) {
  require(value.is_number_integer(), "a number", "an integer", value.dump());
  return value.get<int64_t>();
}

const std::string& to_text(const json& value) {
  require(value.is_string(), "a value", "a text", value.type_name());
  return value.get_ref<const std::string&>();
}

std::pair<const std::string&, const json&> only_member(const json& value) {
  require(value.is_object() && value.size() == 1, "a union", "an object with one member",
          value.is_object() ? fmt::format("{} members", value.size()) : value.type_name());
  const auto member = value.begin();
  return {member.key(), member.value()};
}

at::ScalarType to_dtype(const json& number) {
  static const std::map<int64_t, at::ScalarType> known = {
      {1, at::kByte},        {2, at::kChar},          {3, at::kShort},          {4, at::kInt},
      {5, at::kLong},        {6, at::kHalf},          {7, at::kFloat},          {8, at::kDouble},
      {9, at::kComplexHalf}, {10, at::kComplexFloat}, {11, at::kComplexDouble}, {12, at::kBool},
      {13, at::kBFloat16}};
  const auto found = known.find(to_integer(number));
  require(found != known.end(), "dtype", "one of 1..13 (torch._export.serde.schema.ScalarType)",
          number.dump());
  return found->second;
}

void check_members(const json& object, std::initializer_list<const char*> known) {
  require(object.is_object(), "a value", "an object", object.type_name());
  for (const auto& [key, value] : object.items()) {
    const bool is_known = std::any_of(known.begin(), known.end(),
                                      [&key = key](const char* name) { return key == name; });
    require(is_known, "a member", fmt::format("one of {}", fmt::join(known, ", ")), key);
  }
}

bool is_exported(const std::string& path) {
  check_may_be_program(path);
  const ZipArchive archive(path);
  return !program_entry(archive).empty() || archive.has("serialized_exported_program.json");
}

ExportedFile read_exported(const std::string& path, c10::Device device) {
  check_may_be_program(path);
  const ZipArchive archive(path);
  ExportedFile file;
  file.entry = program_entry(archive);
  if (file.entry.empty()) {
    throw FileError(path, archive.has("serialized_exported_program.json")
                              ? "was written by an older torch: export the model again, with 2.13"
                              : "is no exported program: it has no entry 'models/model.json'");
  }
  file.program = parse(archive, file.entry);
  try {
    check_version(file.program);
  } catch (const std::exception& error) {
    throw FileError(path, fmt::format("{}: {}", file.entry, error.what()));
  }
  const size_t at = file.entry.rfind("models/");
  const std::string root = file.entry.substr(0, at);
  const std::string name = file.entry.substr(at + 7, file.entry.size() - at - 12);
  file.weights =
      read_tensors(archive, root + "data/weights/", name + "_weights_config.json", device);
  file.constants =
      read_tensors(archive, root + "data/constants/", name + "_constants_config.json", device);
  return file;
}

}  // namespace diffmask
