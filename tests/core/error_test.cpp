#include "diffmask/core/error.hpp"

#include <gtest/gtest.h>

namespace diffmask {
namespace {

TEST(ErrorTest, NamesArgumentRuleAndValue) {
  try {
    require(false, "epsilon", "> 0", -1.5);
    FAIL() << "nothing was thrown";
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(), "epsilon has to be > 0, but got -1.5");
    EXPECT_EQ(error.argument(), "epsilon");
  }
  EXPECT_NO_THROW(require(true, "epsilon", "> 0", 1));
}

TEST(ErrorTest, FileErrorNamesTheLine) {
  EXPECT_STREQ(FileError("a.tsv", 17, "two fields wanted").what(), "a.tsv:17: two fields wanted");
}

TEST(ErrorTest, NearestNamesComeFirst) {
  EXPECT_EQ(with_nearest("gru.O", {"embedding", "gru.1", "gru.0", "head"}),
            "'gru.O' (nearest: gru.1, gru.0, head)");
  EXPECT_EQ(with_nearest("x", {}), "'x'");
  EXPECT_EQ(with_nearest("x", {""}), "'x'");
}

}  // namespace
}  // namespace diffmask
