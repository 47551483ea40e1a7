#include "format/file_kind.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

#include "diffmask/core/error.hpp"
#include "diffmask/format/archive.hpp"

namespace diffmask {
namespace {

namespace fs = std::filesystem;
using std::string_view_literals::operator""sv;

constexpr uint64_t kLargestPickle = 64 << 20;

struct Magic {
  std::string_view begin;
  const char* kind;
};
constexpr Magic kMagics[] = {
    {"version https://git-lfs"sv, "is a pointer of Git LFS, in place of the file (git lfs pull)"},
    {"GGUF"sv, "is a GGUF file: weights alone, without the model's code"},
    {"\x89HDF"sv, "is an HDF5 file: weights alone, without the model's code"},
    {"\x7f"
     "ELF"sv,
     "is compiled code, whose states cannot be read or replaced"},
    {"\x1f\x8b"sv, "is compressed by gzip (unpack it first)"},
    {"\x80\x02"sv, "is a Python pickle, as torch.save wrote them before torch 1.6"},
    {"\x80\x03"sv, "is a Python pickle"},
    {"\x80\x04"sv, "is a Python pickle"},
    {"\x80\x05"sv, "is a Python pickle"},
};

bool is_safetensors(std::string_view begin, uint64_t size) {
  uint64_t header = 0;
  if (begin.size() < sizeof header + 1) return false;
  std::memcpy(&header, begin.data(), sizeof header);
  return begin[sizeof header] == '{' && header <= size - sizeof header;
}

// A protobuf whose first field is ONNX's version, its second or third the producer's name or graph.
bool is_onnx(const fs::path& path, std::string_view begin) {
  if (path.extension() == ".onnx") return true;
  return begin.size() > 3 && begin[0] == 0x08 && begin[1] > 0 && begin[1] < 0x20 &&
         begin[2] == 0x12 && begin.find("pytorch") != std::string_view::npos;
}

std::string kind_of_archive(const std::string& path) {
  const ZipArchive archive(path);
  std::string pickle;
  bool compiled = false, program = false, arrays = false;
  for (const auto& [name, size] : archive.entries()) {
    const std::string whole = "/" + name;
    const auto has = [&](const char* part) { return whole.find(part) != std::string::npos; };
    program |= has("/code/") || whole.ends_with("/constants.pkl");
    program |= name.ends_with(".json") && (has("/models/") || has("/serialized_exported_program"));
    compiled |= has("/data/aotinductor/");
    arrays |= name.ends_with(".npy");
    if (whole.ends_with("/data.pkl")) pickle = name;
  }
  if (program) return "";
  if (compiled) {
    return "is a package of AOTInductor: compiled code, whose states cannot be read or replaced. "
           "The exported program that it was compiled from can be read";
  }
  if (arrays) return "holds arrays of numpy: no model's code";
  if (pickle.empty() || archive.size(pickle) > kLargestPickle) return "";
  const std::string text = archive.text(pickle);
  const bool module = text.find("torch.nn.modules") != std::string::npos ||
                      text.find("_modules") != std::string::npos;
  return module
             ? "is a pickle that torch.save wrote of a whole module, whose code is in Python"
             : "is a pickle that torch.save wrote of weights (a state_dict), without the model's "
               "code";
}

}  // namespace

std::string known_kind(const std::string& path) {
  std::error_code problem;
  if (fs::is_directory(path, problem)) {
    return fs::exists(fs::path(path) / "config.json", problem)
               ? "is a folder of Hugging Face's: weights, without the model's code"
               : "is a folder, not a file";
  }
  const uint64_t size = fs::file_size(path, problem);
  if (problem) return "";
  if (size == 0) return "is empty";
  std::string begin(std::min<uint64_t>(size, 256), '\0');
  std::ifstream(path, std::ios::binary)
      .read(begin.data(), static_cast<std::streamsize>(begin.size()));
  if (begin.starts_with("PK\x03\x04")) return kind_of_archive(path);
  for (const Magic& magic : kMagics) {
    if (begin.starts_with(magic.begin)) return magic.kind;
  }
  if (is_safetensors(begin, size)) {
    return "is a safetensors file: weights or inputs alone, without the model's code";
  }
  return is_onnx(path, begin) ? "is an ONNX file, which is not read" : "";
}

void check_may_be_program(const std::string& path) {
  const std::string kind = known_kind(path);
  if (kind.empty()) return;
  throw FileError(path, fmt::format("{}. A model has to be a TorchScript archive or an exported "
                                    "program: in Python, load the model and write it by "
                                    "torch.export.save(torch.export.export(model.eval(), inputs), "
                                    "'model.pt2'), or by torch.jit.trace(model.eval(), inputs)"
                                    ".save('model.pt')",
                                    kind));
}

}  // namespace diffmask
