#include "diffmask/report/heatmap.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/bad_input.hpp"
#include "tests/markup.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

Heatmap example_heatmap() {
  return {"review 17",
          {"a", "fine", "film"},
          {"low", "high"},
          at::tensor({0.0, 0.5, 1.0, 0.25, 2.0, -1.0}).view({3, 2})};
}

// Text that is markup, or nothing XML allows, wherever it is shown.
Heatmap hostile() {
  const std::string text = "<script>alert(1)</script>\"&'\x01\x1b[31m";
  return {text, {text, "</title>"}, {text}, at::full({2, 1}, 0.5)};
}

TEST(HeatmapTest, IsOneExampleWithoutItsPadding) {
  Attribution attribution;
  attribution.sites = {"low", "high"};
  attribution.scores = at::arange(16, at::kFloat).view({2, 4, 2});
  attribution.mask = at::tensor({1, 1, 1, 1, 0, 1, 1, 0}).view({2, 4}).to(at::kBool);
  const Heatmap map = heatmap(attribution, 1, {"x", "y"}, "title");
  EXPECT_EQ(map.title, "title");
  EXPECT_EQ(map.positions, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(map.depths, attribution.sites);
  EXPECT_TRUE(map.scores.equal(at::tensor({10.f, 11.f, 12.f, 13.f}).view({2, 2})));
  expect_refused({
      {"example 2 of 2",
       [&] {
         heatmap(attribution, 2, {"x", "y"}, "");
       },
       "example has to be in 0..1, but got 2"},
      {"example -1",
       [&] {
         heatmap(attribution, -1, {"x", "y"}, "");
       },
       "but got -1"},
      {"names",
       [&] {
         heatmap(attribution, 0, {"x", "y"}, "");
       },
       "names has to be 4 in number, one per position, but got 2"},
  });
}

TEST(TerminalHeatmapTest, PrintsDigitsWithoutColour) {
  EXPECT_EQ(terminal_heatmap(example_heatmap(), /*colour=*/false),
            "review 17\n"
            "      a fine film \n"
            "low   0 9    9    \n"
            "high  5 2    0    \n");
  Heatmap rude = example_heatmap();
  rude.title = "\033[2J\n";
  EXPECT_EQ(terminal_heatmap(rude, false).substr(0, 7), "?[2J?\n ");
  rude.title = "\xff";
  EXPECT_NE(json_report({rude}).find("\ufffd"), std::string::npos);
  Heatmap map = example_heatmap();
  map.high = 2;
  map.scores[0][0] = NAN;
  EXPECT_EQ(terminal_heatmap(map, false),
            "review 17\n"
            "      a fine film \n"
            "low   0 5    9    \n"
            "high  2 1    0    \n");
}

TEST(TerminalHeatmapTest, ColoursCellsAsWideAsTheWords) {
  const std::string text = terminal_heatmap(example_heatmap(), /*colour=*/true);
  EXPECT_NE(text.find("      a fine film \nlow   \033[48;2;238;243;250m \033[0m "
                      "\033[48;2;8;58;130m    \033[0m \033[48;2;8;58;130m    \033[0m \n"),
            std::string::npos)
      << text;
  EXPECT_EQ(count(text, "\033[48;2;"), 6);
  EXPECT_EQ(count(text, "\033[0m"), 6);
}

TEST(TerminalHeatmapTest, WrapsToTheWidth) {
  Heatmap map{"t", {}, {"depth"}, at::ones({20, 1})};
  for (int i = 0; i < 20; ++i) map.positions.push_back("word" + std::to_string(10 + i));
  const std::string text = terminal_heatmap(map, false, 40);
  int64_t lines = 0;
  for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    EXPECT_LE(end - at, 40u);
    ++lines;
  }
  EXPECT_EQ(lines, 1 + 2 * 5) << "4 words of 7 columns go beside a label of 7";
  for (const std::string& word : map.positions) EXPECT_EQ(count(text, word), 1);
  EXPECT_EQ(count(terminal_heatmap(map, false, 1), "\n"), 1 + 2 * 20) << "a word a line at least";
}

TEST(TerminalHeatmapTest, CountsColumnsNotBytes) {
  const Heatmap map{"t", {"\u00E9t\u00E9", "\u65E5\u672C", "x"}, {"d"}, at::zeros({3, 1})};
  EXPECT_EQ(terminal_heatmap(map, false),
            "t\n"
            "   \u00E9t\u00E9 \u65E5\u672C x \n"
            "d  0   0    0 \n");
}

TEST(SvgHeatmapTest, HasACellForEachScore) {
  const std::string svg = svg_heatmap(example_heatmap());
  EXPECT_EQ(expect_nested(svg), (std::set<std::string>{"svg", "text", "rect", "title"}));
  EXPECT_EQ(count(svg, "<title>"), 6);
  for (const std::string cell : {"a at low: 0.000", "a at high: 0.500", "fine at high: 0.250",
                                 "film at low: 2.000", "film at high: -1.000"}) {
    EXPECT_NE(svg.find("<title>" + cell + "</title>"), std::string::npos) << cell;
  }
  EXPECT_EQ(count(svg, "#eef3fa"), 2) << "the palest: 0 and -1";
  EXPECT_EQ(count(svg, "#083a82"), 2) << "the darkest: 1 and 2";
  EXPECT_TRUE(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" "));
}

TEST(SvgHeatmapTest, WrapsToTheWidth) {
  Heatmap map{"t", std::vector<std::string>(40, "word"), {"d"}, at::zeros({40, 1})};
  const auto size = [&](int64_t width) {
    const std::string svg = svg_heatmap(map, width);
    const auto number = [&](const std::string& name) {
      return std::stol(svg.substr(svg.find(name + "=\"") + name.size() + 2));
    };
    return std::pair(number(" width"), number(" height"));
  };
  EXPECT_LE(size(400).first, 400);
  EXPECT_LE(size(1000).first, 1000);
  EXPECT_GT(size(1000).first, 400);
  EXPECT_GT(size(400).second, size(1000).second);
}

TEST(ReportTest, EscapesAllText) {
  const std::string text = hostile().title;
  for (const std::string& markup : {svg_heatmap(hostile()), html_report(text, text, {hostile()})}) {
    const auto names = expect_nested(markup);
    EXPECT_FALSE(names.contains("script"));
    EXPECT_EQ(count(markup, "<script"), 0);
    EXPECT_GT(count(markup, "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&amp;&#39;\uFFFD\uFFFD"),
              0);
    EXPECT_EQ(count(markup, "&lt;/title&gt;"), 2) << "in the picture and in the cell's title";
    for (const char c : markup) {
      EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t');
    }
  }
}

TEST(ReportTest, HtmlNeedsNothingBesideItself) {
  const std::string html =
      html_report("Reviews", "What is needed.", {example_heatmap(), example_heatmap()});
  EXPECT_TRUE(html.starts_with("<!DOCTYPE html>\n"));
  EXPECT_EQ(expect_nested(html),
            (std::set<std::string>{"html", "head", "title", "style", "body", "h1", "h2", "p",
                                   "span", "section", "svg", "text", "rect"}));
  EXPECT_EQ(count(html, "<section>"), 2);
  EXPECT_EQ(count(html, "<h2>review 17</h2>"), 2);
  EXPECT_EQ(count(html, "<h1>Reviews</h1>"), 1);
  EXPECT_EQ(count(html, "<p>What is needed.</p>"), 1);
  EXPECT_EQ(count(html, "http://"), count(html, "xmlns=\"http://www.w3.org/2000/svg\""));
  for (const std::string part : {"https:", "src=", "href=", "url(", "@import", "<script", "//"}) {
    EXPECT_EQ(count(html, part), part == "//" ? 2 : 0) << part;
  }
  EXPECT_EQ(count(html_report("a", "b", {}), "<section>"), 0);
}

TEST(ReportTest, JsonReadsBack) {
  const Heatmap bad = hostile();
  const json report = json::parse(json_report({example_heatmap(), bad}));
  ASSERT_EQ(report.size(), 2u);
  EXPECT_EQ(report[0], (json{{"title", "review 17"},
                             {"positions", {"a", "fine", "film"}},
                             {"depths", {"low", "high"}},
                             {"scores", {{0.0, 0.5}, {1.0, 0.25}, {2.0, -1.0}}}}));
  EXPECT_EQ(report[1]["title"], bad.title);
  EXPECT_EQ(report[1]["positions"], bad.positions);
  for (int64_t p = 0; p < 2; ++p) {
    EXPECT_EQ(report[1]["scores"][p][0].get<double>(), bad.scores[p][0].item<double>());
  }
  EXPECT_EQ(json::parse(json_report({})), json::array());
}

TEST(ReportTest, RefusesBadInput) {
  const auto every = [](const std::string& name, const std::function<void(Heatmap&)>& change,
                        const std::string& message) {
    Heatmap map = example_heatmap();
    change(map);
    return std::vector<BadInput>{
        {name + ", terminal", [=] { terminal_heatmap(map, false); }, message},
        {name + ", SVG", [=] { svg_heatmap(map); }, message},
        {name + ", HTML", [=] { html_report("", "", {map}); }, message},
        {name + ", JSON", [=] { json_report({map}); }, message},
    };
  };
  const std::string shape = "map.scores has to be of shape ";
  expect_refused(every(
      "positions", [](Heatmap& map) { map.positions.pop_back(); },
      shape + "(2, 2), but got (3, 2)"));
  expect_refused(every(
      "depths", [](Heatmap& map) { map.depths.push_back("x"); }, shape + "(3, 3), but got (3, 2)"));
  expect_refused(every(
      "flat", [](Heatmap& map) { map.scores = map.scores.view({6}); },
      shape + "(3, 2), but got (6)"));
  expect_refused(every(
      "undefined", [](Heatmap& map) { map.scores = at::Tensor(); },
      shape + "(3, 2), but got an undefined tensor"));
  expect_refused(every(
      "range", [](Heatmap& map) { map.low = 1; }, "map.low has to be < map.high = 1, but got 1"));
  expect_refused(every(
      "NaN", [](Heatmap& map) { map.high = NAN; }, "map.low has to be <"));
}

}  // namespace
}  // namespace diffmask
