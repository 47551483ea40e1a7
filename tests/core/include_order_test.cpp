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
// and replaced without those above.
constexpr std::array kFolders = {"core",  "format",      "data",    "model",  "gate",
                                 "probe", "optim",       "nets",    "mask",   "objective",
                                 "train", "attribution", "metrics", "report", "cli"};

// A folder's place in the order; kFolders.size() for one that has none.
size_t place(const std::string& folder) {
  return std::find(kFolders.begin(), kFolders.end(), folder) - kFolders.begin();
}

// What is wrong with a line of a source in `folder`, or "".
std::string offence(const std::string& folder, bool is_public, const std::string& line) {
  static const std::regex kInclude(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
  static const std::regex kOurs(R"(diffmask/([^/]+)(/.*)?)");
  std::smatch include, ours;
  if (!std::regex_search(line, include, kInclude)) return "";
  const std::string header = include[1];
  if (is_public && header == "torch/torch.h") {
    return "a public header may not include torch/torch.h: it costs each of a user's sources 15 s";
  }
  if (!std::regex_match(header, ours, kOurs)) return "";
  if (place(ours[1]) <= place(folder) && place(ours[1]) < kFolders.size()) return "";
  return fmt::format(
      "'{}' may not include '{}': a folder includes only itself and those before it in {}", folder,
      header, fmt::join(kFolders, ", "));
}

TEST(IncludeOrderTest, KnowsWhatIsForbidden) {
  EXPECT_EQ(offence("model", true, R"(#include "diffmask/data/batch.hpp")"), "");
  EXPECT_EQ(offence("model", true, R"(#include "diffmask/model/site.hpp")"), "");
  EXPECT_EQ(offence("model", true, R"(// #include "diffmask/mask/masking.hpp")"), "");
  EXPECT_EQ(offence("model", false, "#include <torch/torch.h>"), "");
  EXPECT_NE(offence("model", true, R"(#include "diffmask/mask/masking.hpp")"), "");
  EXPECT_NE(offence("model", true, R"(#include "diffmask/unknown/x.hpp")"), "");
  EXPECT_NE(offence("model", true, R"(#include "diffmask/diffmask.hpp")"), "");
  EXPECT_NE(offence("model", true, "#include <torch/torch.h>"), "");
}

TEST(IncludeOrderTest, FoldersIncludeOnlyThoseToTheirLeft) {
  const char* source = std::getenv("DIFFMASK_SOURCE");
  if (!source) GTEST_SKIP() << "DIFFMASK_SOURCE is not set: run this test by ctest";
  for (const std::string root : {"include/diffmask", "src"}) {
    int files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(source) / root)) {
      const fs::path extension = entry.path().extension();
      if (extension != ".hpp" && extension != ".cpp") continue;
      const fs::path inside = entry.path().lexically_relative(fs::path(source) / root);
      // What lies in no folder, such as the precompiled header, stands above all of them.
      const std::string folder = inside.has_parent_path() ? inside.begin()->string() : "";
      const std::string path = root + "/" + inside.string();
      EXPECT_TRUE(folder.empty() || place(folder) < kFolders.size())
          << path << ": '" << folder << "' has no place in the order of folders";
      ++files;
      std::ifstream file(entry.path());
      int number = 0;
      for (std::string line; std::getline(file, line);) {
        ++number;
        const std::string problem = offence(folder, root != "src", line);
        if (!problem.empty()) ADD_FAILURE() << path << ":" << number << ": " << problem;
      }
    }
    EXPECT_GT(files, 0) << "no sources were read in " << root;
  }
}

}  // namespace
}  // namespace diffmask
