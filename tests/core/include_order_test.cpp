#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>

namespace diffmask {
namespace {

namespace fs = std::filesystem;

// A folder may include itself and those to its left, so that the parts below can be read, tested
// and replaced without those above: nothing left of the zoo knows the zoo. Two headers lie in no
// folder: any file may include the version, and diffmask.hpp shows users all but the zoo.
constexpr std::array kOrder = {"version.hpp",  "core",  "format",      "data",    "model",
                               "program",      "gate",  "probe",       "optim",   "objective",
                               "mask",         "train", "attribution", "metrics", "report",
                               "diffmask.hpp", "zoo",   "cli"};

// A folder's place in the order; kOrder.size() for one that has none.
size_t place(const std::string& folder) {
  return std::find(kOrder.begin(), kOrder.end(), folder) - kOrder.begin();
}

// The first part of a path: "core" of "core/error.hpp", "version.hpp" of "version.hpp".
std::string first_part(const std::string& path) { return path.substr(0, path.find('/')); }

// What is wrong with a line of the file `path`, relative to include/diffmask or to src; "" if
// nothing is.
std::string offence(const std::string& path, bool is_public, const std::string& line) {
  static const std::regex kInclude(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])");
  std::smatch include;
  if (!std::regex_search(line, include, kInclude)) return "";
  std::string header = include[2];
  if (is_public && header == "torch/torch.h") {
    return "a public header may not include torch/torch.h: it costs each of a user's sources 15 s";
  }
  if (header.starts_with("diffmask/")) {
    header = header.substr(9);
  } else if (include[1] != "\"") {
    return "";
  } else if (is_public) {
    return fmt::format("a public header may not include '{}', which is not installed", header);
  }
  const std::string from = first_part(path), to = first_part(header);
  if (to == "diffmask.hpp" && from != "cli") {
    return "'diffmask.hpp' is for users: the library includes what it uses";
  }
  if (place(to) <= place(from) && place(to) < kOrder.size()) return "";
  return fmt::format(
      "'{}' may not include '{}': a folder includes only itself and those before it in {}", from,
      header, fmt::join(kOrder, ", "));
}

TEST(IncludeOrderTest, KnowsWhatIsForbidden) {
  const auto allows = [](const std::string& path, bool is_public, const std::string& line) {
    return offence(path, is_public, line).empty();
  };
  const std::string site = "model/site.hpp", erased = "attribution/erasure/erased.cpp";
  EXPECT_TRUE(allows(site, true, R"(#include "diffmask/data/batch.hpp")"));
  EXPECT_TRUE(allows(site, true, R"(#include "diffmask/model/frozen_model.hpp")"));
  EXPECT_TRUE(allows(site, true, R"(// #include "diffmask/mask/masking.hpp")"));
  EXPECT_TRUE(allows(site, true, "#include <ATen/core/Tensor.h>"));
  EXPECT_TRUE(allows("model/staged.cpp", false, "#include <torch/torch.h>"));
  EXPECT_FALSE(allows(site, true, "#include <torch/torch.h>"));
  EXPECT_FALSE(allows(site, true, R"(#include "diffmask/mask/masking.hpp")"));
  EXPECT_FALSE(allows(site, true, "#include <diffmask/mask/masking.hpp>"));
  EXPECT_FALSE(allows(site, true, R"(#include "diffmask/unknown/x.hpp")"));
  // The order within the method.
  EXPECT_TRUE(allows("train/trainer.hpp", true, R"(#include "diffmask/mask/explainer.hpp")"));
  EXPECT_TRUE(allows("mask/explainer.hpp", true, R"(#include "diffmask/objective/target.hpp")"));
  EXPECT_FALSE(allows("objective/target.hpp", true, R"(#include "diffmask/mask/fill.hpp")"));
  EXPECT_FALSE(allows("gate/gate.hpp", true, R"(#include "diffmask/probe/probe.hpp")"));
  EXPECT_FALSE(allows("model/native.cpp", false, R"(#include "diffmask/program/program.hpp")"));
  // Private headers.
  EXPECT_TRUE(allows(erased, false, R"(#include "attribution/gradient/gradients.hpp")"));
  EXPECT_TRUE(allows(erased, false, R"(#include "program/tape.hpp")"));
  EXPECT_TRUE(allows("metrics/x.cpp", false, R"(#include "attribution/erasure/erased.hpp")"));
  EXPECT_FALSE(allows("program/tape.hpp", false, R"(#include "attribution/memory_meter.hpp")"));
  EXPECT_FALSE(allows(erased, false, R"(#include "report/markup.hpp")"));
  EXPECT_FALSE(allows(erased, false, R"(#include "erased.hpp")"));
  EXPECT_FALSE(allows("program/program.hpp", true, R"(#include "program/program_graph.hpp")"));
  // The zoo.
  EXPECT_TRUE(allows("zoo/tasks/tasks.cpp", false, R"(#include "diffmask/report/eigen.hpp")"));
  EXPECT_TRUE(allows("cli/main.cpp", false, R"(#include "diffmask/zoo/tasks/tasks.hpp")"));
  EXPECT_FALSE(allows("report/heatmap.cpp", false, R"(#include "zoo/data/utf8.hpp")"));
  EXPECT_FALSE(allows("report/chart.hpp", true, R"(#include "diffmask/zoo/nets/bert.hpp")"));
  EXPECT_FALSE(allows("zoo/nets/bert.cpp", false, R"(#include "cli/attribute.hpp")"));
  // The headers that lie in no folder.
  EXPECT_TRUE(allows("core/error.hpp", true, R"(#include "diffmask/version.hpp")"));
  EXPECT_TRUE(allows("diffmask.hpp", true, R"(#include "diffmask/report/eigen.hpp")"));
  EXPECT_TRUE(allows("cli/main.cpp", false, R"(#include "diffmask/diffmask.hpp")"));
  EXPECT_FALSE(allows("diffmask.hpp", true, R"(#include "diffmask/zoo/nets/bert.hpp")"));
  EXPECT_FALSE(allows("version.hpp", true, R"(#include "diffmask/core/error.hpp")"));
  EXPECT_FALSE(allows(site, true, R"(#include "diffmask/diffmask.hpp")"));
  EXPECT_FALSE(allows("zoo/nets/bert.cpp", false, R"(#include "diffmask/diffmask.hpp")"));
}

TEST(IncludeOrderTest, FoldersIncludeOnlyThoseToTheirLeft) {
  const char* source = std::getenv("DIFFMASK_SOURCE");
  if (!source) GTEST_SKIP() << "DIFFMASK_SOURCE is not set: run this test by ctest";
  for (const std::string root : {"include/diffmask", "src"}) {
    int files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(source) / root)) {
      const fs::path extension = entry.path().extension();
      if (extension != ".hpp" && extension != ".cpp") continue;
      const std::string inside =
          entry.path().lexically_relative(fs::path(source) / root).generic_string();
      const std::string path = root + "/" + inside;
      EXPECT_LT(place(first_part(inside)), kOrder.size())
          << path << ": '" << first_part(inside) << "' has no place in the order of folders";
      ++files;
      std::ifstream file(entry.path());
      int number = 0;
      for (std::string line; std::getline(file, line);) {
        ++number;
        const std::string problem = offence(inside, root != "src", line);
        if (!problem.empty()) ADD_FAILURE() << path << ":" << number << ": " << problem;
      }
    }
    EXPECT_GT(files, 0) << "no sources were read in " << root;
  }
}

}  // namespace
}  // namespace diffmask
