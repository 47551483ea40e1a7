// README.md shows a whole program, which is also built and run: examples/hello.cpp.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "diffmask/core/file.hpp"

namespace diffmask {
namespace {

TEST(ReadmeTest, ShowsTheExampleWordForWord) {
  const char* source = std::getenv("DIFFMASK_SOURCE");
  ASSERT_NE(source, nullptr) << "DIFFMASK_SOURCE has to name the source tree";
  const std::string readme = read_file(std::string(source) + "/README.md");
  const std::string fence = "```cpp\n";
  const size_t begin = readme.find(fence);
  ASSERT_NE(begin, std::string::npos) << "README.md has no block of C++";
  const size_t from = begin + fence.size();
  EXPECT_EQ(readme.substr(from, readme.find("```\n", from) - from),
            read_file(std::string(source) + "/examples/hello.cpp"));
}

}  // namespace
}  // namespace diffmask
