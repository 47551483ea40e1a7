#include "diffmask/program/script.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/jit/runtime/operator.h>
#include <torch/script.h>

#include <memory>
#include <regex>
#include <set>
#include <string>

#include "diffmask/core/error.hpp"
#include "diffmask/core/libtorch.hpp"
#include "diffmask/format/archive.hpp"
#include "program/script_graph.hpp"

namespace diffmask {

namespace jit = torch::jit;

std::shared_ptr<Program> script_model(const jit::Module& module, const ProgramOptions& options) {
  for (const auto& item : module.named_modules()) {
    // One that has no such flag has no two modes.
    require(!item.value.hasattr("training") || !item.value.is_training(),
            item.name.empty() ? "model" : item.name, "in evaluation mode (call model.eval())",
            "training mode");
  }
  ProgramBuilder builder;
  ProgramOptions there = options;  // a module in memory lies where its weights do
  const auto weight = [&](const std::string& name, const at::Tensor& tensor) {
    builder.weight(name, tensor);
    there.device = tensor.device();
  };
  for (const auto& item : module.named_parameters()) weight(item.name, item.value);
  for (const auto& item : module.named_buffers()) weight(item.name, item.value);
  const Slot output = lower_module(builder, module, there);
  return std::make_shared<Program>(builder.finish(output));
}

namespace {

// LibTorch stops at the first operator that it lacks, so the others are looked for in the archive's
// code.
std::set<std::string> missing_operators(const ZipArchive& archive, const std::string& first) {
  std::set<std::string> missing = {first};
  static const std::regex call(R"(\btorch\.([a-z_]\w{0,80})\()");
  for (const auto& [entry, size] : archive.entries()) {
    if (!entry.ends_with(".py")) continue;
    const std::string code = archive.text(entry);
    for (std::sregex_iterator match(code.begin(), code.end(), call), end; match != end; ++match) {
      const std::string name = (*match)[1];
      const auto none = [&](const char* space) {
        return jit::getAllOperatorsFor(c10::Symbol::fromQualString(space + name)).empty();
      };
      if (none("aten::") && none("prim::")) missing.insert("aten::" + name);
    }
  }
  return missing;
}

}  // namespace

std::shared_ptr<Program> load_script(const std::string& path, const ProgramOptions& options) {
  const ZipArchive archive(path);
  jit::Module module;
  try {
    module = jit::load(path, options.device);
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    throw FileError(path, "is no TorchScript archive: " + what.substr(0, what.find('\n')));
  } catch (const jit::ErrorReport& error) {
    const std::string what = error.what(), unknown = "Unknown builtin op: ";
    const size_t at = what.find(unknown);
    if (at == std::string::npos) throw FileError(path, "cannot be compiled: " + what);
    const size_t name = at + unknown.size();
    const std::string first = what.substr(name, what.find(".\n", name) - name);
    throw FileError(path, fmt::format("this LibTorch ({}) has no operator {}", TORCH_VERSION,
                                      fmt::join(missing_operators(archive, first), ", ")));
  } catch (const std::exception& error) {
    throw FileError(path, fmt::format("is no TorchScript archive: {}", error.what()));
  }
  return script_model(module, options);
}

}  // namespace diffmask
