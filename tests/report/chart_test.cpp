#include "diffmask/report/chart.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

Chart example_chart() {
  return {"cost", "masked", "F1", {{"ours", {{0.0, 0.5}, {0.4, 0.3}}}, {"random", {{0.2, 0.1}}}}};
}

TEST(ChartTest, PlacesPointsBetweenTheirExtremes) {
  const std::string svg = svg_chart(example_chart(), 414, 280);  // a plot of 200 by 200 at (64, 32)
  EXPECT_NE(svg.find("cx=\"64.0\" cy=\"32.0\""), std::string::npos) << "(0, 0.5): top left";
  EXPECT_NE(svg.find("cx=\"264.0\" cy=\"132.0\""), std::string::npos) << "(0.4, 0.3): right";
  EXPECT_NE(svg.find("cx=\"164.0\" cy=\"232.0\""), std::string::npos) << "(0.2, 0.1): bottom";
  EXPECT_NE(svg.find("points=\"64.0,32.0 264.0,132.0 \""), std::string::npos) << "one line";
  EXPECT_EQ(svg.find("stroke-dasharray"), std::string::npos);
}

TEST(ChartTest, MarksRoundNumbers) {
  const std::string svg = svg_chart(example_chart());
  for (const char* tick : {">0<", ">0.1<", ">0.2<", ">0.3<", ">0.4<", ">0.5<"}) {
    EXPECT_NE(svg.find(tick), std::string::npos) << tick;
  }
}

TEST(ChartTest, ShowsWhatHasNoExtent) {
  const std::string svg = svg_chart({"one", "x", "y", {{"a", {{2.0, 3.0}}, /*dashed=*/true}}});
  EXPECT_NE(svg.find("<circle"), std::string::npos);
  EXPECT_NE(svg.find("stroke-dasharray"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(ChartTest, EscapesItsText) {
  const std::string svg = svg_chart({"<b>", "<x>", "<y>", {{"<script>", {{0, 0}}}}});
  for (const char* markup : {"<b>", "<x>", "<y>", "<script>"}) {
    EXPECT_EQ(svg.find(markup), std::string::npos) << markup;
  }
}

TEST(ChartTest, RefusesBadInput) {
  const auto make = [](Chart chart, int64_t width = 640, int64_t height = 400) {
    return [=] { svg_chart(chart, width, height); };
  };
  expect_refused({
      {"no curve", make({"t", "x", "y", {}}), "curves has to be with at least one point"},
      {"no point", make({"t", "x", "y", {{"a", {}}}}), "curves"},
      {"NaN", make({"t", "x", "y", {{"a", {{NAN, 0}}}}}), "curve 'a' has to be of finite points"},
      {"infinity", make({"t", "x", "y", {{"a", {{0, INFINITY}}}}}), "curve 'a'"},
      {"narrow", make(example_chart(), 100), "width has to be > 214, but got 100"},
      {"low", make(example_chart(), 640, 80), "height has to be > 80, but got 80"},
  });
}

}  // namespace
}  // namespace diffmask
