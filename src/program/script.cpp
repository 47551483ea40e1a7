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
#include "format/file_kind.hpp"
#include "program/modes.hpp"
#include "program/script_graph.hpp"

namespace diffmask {

namespace jit = torch::jit;

namespace {

std::unique_ptr<ProgramGraph> lowered(const jit::Module& module, const ProgramOptions& options,
                                      bool evaluated) {
  ProgramOptions there = options;  // a module in memory lies where its weights do
  for (const at::Tensor& tensor : module.parameters()) there.device = tensor.device();
  for (const at::Tensor& tensor : module.buffers()) there.device = tensor.device();
  ProgramBuilder builder(there);
  for (const auto& item : module.named_parameters()) builder.weight(item.name, item.value);
  for (const auto& item : module.named_buffers()) builder.weight(item.name, item.value);
  const Slot output = lower_module(builder, module, there, evaluated);
  return builder.finish(output, options.inputs);
}

// The modules whose flag for training is on. One that has no such flag has no two modes.
std::vector<std::string> training_modules(const jit::Module& module) {
  std::vector<std::string> names;
  for (const auto& item : module.named_modules()) {
    if (!item.value.hasattr("training") || !item.value.is_training()) continue;
    names.push_back(item.name.empty() ? "the model itself" : item.name);
  }
  return names;
}

// Refuses a function that calls what reaches outside, itself or through others, before any of it
// runs.
class Inside {
 public:
  void check(const jit::Function& function) {
    if (!function.isGraphFunction() || !checked_.insert(&function).second) return;
    check(*jit::toGraphFunction(function).graph()->block());
  }

 private:
  void check(const jit::Block& block) {
    for (const jit::Node* node : block.nodes()) {
      const std::string name = node->kind().toQualString();
      require(!reaches_outside(name), "model",
              "one that reads and writes no files and talks to no one", name);
      if (node->kind() == c10::prim::CallMethod) {
        const auto type = node->input(0)->type()->cast<c10::ClassType>();
        if (type) check(type->getMethod(node->s(c10::attr::name)));
      } else if (node->kind() == c10::prim::CallFunction) {
        check(*node->input(0)->type()->expectRef<c10::FunctionType>().function());
      } else if (node->hasAttribute(c10::attr::Subgraph)) {
        check(*node->g(c10::attr::Subgraph)->block());
      }
      for (const jit::Block* inner : node->blocks()) check(*inner);
    }
  }

  std::set<const jit::Function*> checked_;
};

}  // namespace

std::shared_ptr<Program> script_model(const jit::Module& module, const ProgramOptions& options) {
  if (const auto method = module.find_method(options.method)) Inside().check(method->function());
  auto graph = lowered(module, options, /*evaluated=*/false);
  check_effects(*graph, options);
  const std::vector<std::string> training = training_modules(module);
  if (!training.empty() && !options.allow_chance) {
    const std::string other = first_difference(*graph, *lowered(module, options, true));
    require(other.empty(), "model",
            "in evaluation mode (call model.eval() before it is saved, or allow it: "
            "--allow-chance, ProgramOptions::allow_chance)",
            fmt::format("training mode, on which {} depends (set in {})", other,
                        fmt::join(training, ", ")));
  }
  return std::make_shared<Program>(std::move(graph));
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
  check_may_be_program(path);
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
