#include "diffmask/core/part.hpp"

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

struct Dials {
  double weight = 0.25;
  int64_t count = 3;
  bool on = false;

  template <typename Visit>
  void visit(Visit visit) {
    visit("weight", weight);
    visit("count", count);
    visit("on", on);
  }
};

TEST(PartTest, OptionsComeBackAsTheyWere) {
  const Part part = part_of("dials", Dials{.weight = 0.1, .count = 7, .on = true});
  EXPECT_EQ(part.name, "dials");
  EXPECT_EQ(part.options.size(), 3u);
  const auto dials = options_of<Dials>(part);
  EXPECT_EQ(dials.weight, 0.1);
  EXPECT_EQ(dials.count, 7);
  EXPECT_TRUE(dials.on);
  EXPECT_EQ(part_of("dials", dials), part);
}

TEST(PartTest, RefusesOtherOptionsAndUnknownNames) {
  const Part good = part_of("dials", Dials{});
  Part missing = good, more = good;
  missing.options.erase("count");
  more.options["counts"] = 1;
  const std::map<std::string, int> known = {{"first", 1}, {"second", 2}};
  EXPECT_EQ(named("number", "second", known), 2);
  expect_refused({
      {"one is missing", [&] { options_of<Dials>(missing); }, "given with 'count'"},
      {"one too many", [&] { options_of<Dials>(more); }, "options of 'dials' has to be"},
      {"one too many, by name", [&] { options_of<Dials>(more); }, "but got counts"},
      {"unknown", [&] { named("number", "secnd", known); },
       "number has to be a known one, but got 'secnd' (nearest: second"},
  });
}

}  // namespace
}  // namespace diffmask
