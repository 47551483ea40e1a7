#include "diffmask/report/overlay.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "tests/bad_input.hpp"
#include "tests/markup.hpp"

namespace diffmask {
namespace {

// 4 x 6 cells of grey, six patches of 2 x 2 in two rows of three, two depths.
Overlay example_overlay() {
  at::Tensor image = at::zeros({1, 4, 6});
  image[0][1].narrow(0, 2, 3).fill_(1);
  image[0][3][5] = 0.5;
  return {"coat 3", image, {"image", "block.0"}, at::arange(12, at::kDouble).view({6, 2}) / 10, 3};
}

// A patch's veil as it is written.
std::string veil(int64_t x, int64_t y, const std::string& opacity, const std::string& title) {
  return fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"2\" height=\"2\" "
      "fill-opacity=\"{}\"><title>{}</title></rect>",
      x, y, opacity, title);
}

TEST(OverlayTest, IsOneExampleOfAnAttribution) {
  Attribution attribution;
  attribution.sites = {"image", "block.0"};
  attribution.scores = at::rand({3, 6, 2});
  attribution.mask = at::ones({3, 6}, at::kBool);
  const at::Tensor image = at::rand({1, 4, 6});
  const Overlay row = overlay(attribution, 1, image, 3, "title");
  EXPECT_EQ(row.title, "title");
  EXPECT_EQ(row.depths, attribution.sites);
  EXPECT_TRUE(row.scores.equal(attribution.scores[1]));
  EXPECT_TRUE(row.image.equal(image));
  EXPECT_EQ(row.columns, 3);
  expect_refused({
      {"example 3 of 3", [&] { overlay(attribution, 3, image, 3, ""); },
       "example has to be in 0..2, but got 3"},
      {"example -1", [&] { overlay(attribution, -1, image, 3, ""); }, "but got -1"},
      {"columns", [&] { overlay(attribution, 0, image, 4, ""); }, "a divisor of the number"},
  });
}

TEST(OverlayTest, ShowsTheCells) {
  const std::string svg = svg_overlay(example_overlay());
  EXPECT_EQ(count(svg, "<rect width=\"6\" height=\"4\" fill=\"#000000\"/>"), 1);
  EXPECT_EQ(count(svg, "<rect x=\"2\" y=\"1\" width=\"3\" height=\"1\" fill=\"#ffffff\"/>"), 1);
  EXPECT_EQ(count(svg, "<rect x=\"5\" y=\"3\" width=\"1\" height=\"1\" fill=\"#808080\"/>"), 1);
  EXPECT_EQ(count(svg, "height=\"1\""), 2) << "black cells are the ground's";
  EXPECT_EQ(count(svg, "<use href=\"#image0\"/>"), 3) << "as it is, and at each depth";

  Overlay colour = example_overlay();
  colour.image = at::tensor({1.0, 2.0, 0.2, -1.0, 0.0, 1.0}).view({3, 1, 2});
  EXPECT_EQ(count(svg_overlay(colour), "#ff3300"), 1);
  EXPECT_EQ(count(svg_overlay(colour), "#ff00ff"), 1) << "values beyond [0, 1] are clamped";
}

TEST(OverlayTest, LaysAVeilOverEachPatchOfEachDepth) {
  Overlay row = example_overlay();
  row.scores[5][1] = NAN;
  const std::string svg = svg_overlay(row);
  EXPECT_EQ(expect_nested(svg),
            (std::set<std::string>{"svg", "defs", "g", "text", "rect", "title"}));
  EXPECT_EQ(count(svg, "<title>"), 12);
  EXPECT_EQ(count(svg, veil(0, 0, "0.900", "row 0, column 0: 0.000")), 1) << "not needed: covered";
  EXPECT_EQ(count(svg, veil(4, 0, "0.540", "row 0, column 2: 0.400")), 1);
  EXPECT_EQ(count(svg, veil(0, 2, "0.360", "row 1, column 0: 0.600")), 1);
  EXPECT_EQ(count(svg, veil(4, 2, "0.000", "row 1, column 2: 1.000")), 1) << "needed: clear";
  EXPECT_EQ(count(svg, veil(4, 2, "0.900", "row 1, column 2: nan")), 1);
  // The names of the columns, in their places.
  EXPECT_EQ(count(svg, "<g transform=\"translate(0 0)\"><text y=\"13\">as it is</text>"), 1);
  EXPECT_EQ(count(svg, "<g transform=\"translate(124 0)\"><text y=\"13\">image</text>"), 1);
  EXPECT_EQ(count(svg, "<g transform=\"translate(248 0)\"><text y=\"13\">block.0</text>"), 1);
}

TEST(OverlayTest, PageNeedsNothingBesideItself) {
  const std::string html =
      html_overlays("Coats", "What is needed.", {example_overlay(), example_overlay()});
  EXPECT_TRUE(html.starts_with("<!DOCTYPE html>\n"));
  expect_nested(html);
  EXPECT_EQ(count(html, "<section>\n<h2>coat 3</h2>\n<svg "), 2);
  EXPECT_EQ(count(html, "<h1>Coats</h1>"), 1);
  EXPECT_EQ(count(html, "<p>What is needed.</p>"), 1);
  EXPECT_EQ(count(html, "id=\"image0\""), 1) << "an id is of one element of the page";
  EXPECT_EQ(count(html, "id=\"image1\""), 1);
  EXPECT_EQ(count(html, "href="), count(html, "<use href=\"#image"));
  for (const std::string part : {"https:", "src=", "url(", "@import", "<script", "<img"}) {
    EXPECT_EQ(count(html, part), 0) << part;
  }
}

TEST(OverlayTest, EscapesAllText) {
  const std::string text = "<script>alert(1)</script>\"&'\x01";
  Overlay row = example_overlay();
  row.title = text;
  row.depths = {text, "</title>"};
  for (const std::string& markup : {svg_overlay(row), html_overlays(text, text, {row})}) {
    EXPECT_FALSE(expect_nested(markup).contains("script"));
    EXPECT_GE(count(markup, "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&amp;&#39;\uFFFD"), 2);
    EXPECT_EQ(count(markup, "&lt;/title&gt;"), 1);
  }
}

TEST(OverlayTest, RefusesBadInput) {
  const auto with = [](const std::function<void(Overlay&)>& change) {
    return [change] {
      Overlay row = example_overlay();
      change(row);
      html_overlays("", "", {row});
    };
  };
  expect_refused({
      {"no image", with([](Overlay& r) { r.image = at::Tensor(); }), "row.image has to be"},
      {"bytes", with([](Overlay& r) { r.image = r.image.to(at::kByte); }),
       "row.image has to be a tensor of floating point, but got Byte"},
      {"NaN", with([](Overlay& r) { r.image[0][0][0] = NAN; }), "row.image has to be finite"},
      {"flat", with([](Overlay& r) { r.image = r.image[0]; }),
       "row.image has to be of shape (1, H, W) or (3, H, W), but got (4, 6)"},
      {"channels", with([](Overlay& r) {
         r.image = at::zeros({2, 4, 6});
       }),
       "but got (2, 4, 6)"},
      {"depths", with([](Overlay& r) { r.depths.pop_back(); }),
       "row.scores has to be of shape (-1, 1), but got (6, 2)"},
      {"columns", with([](Overlay& r) { r.columns = 4; }),
       "row.columns has to be a divisor of the number of patches, 6, but got 4"},
      {"no columns", with([](Overlay& r) { r.columns = 0; }), "but got 0"},
      {"range", with([](Overlay& r) { r.low = 1; }), "row.low has to be < row.high = 1, but got 1"},
      {"width", [] { svg_overlay(example_overlay(), 0, 0); }, "width has to be >= 1, but got 0"},
  });
}

}  // namespace
}  // namespace diffmask
