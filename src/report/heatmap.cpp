#include "diffmask/report/heatmap.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "report/markup.hpp"

namespace diffmask {
namespace {

// Columns that a text takes in a terminal, or in a font of fixed width.
int64_t display_width(const std::string& text) {
  int64_t width = 0;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (auto left = static_cast<utf8proc_ssize_t>(text.size()); left > 0;) {
    utf8proc_int32_t code = 0;
    const auto size = std::max<utf8proc_ssize_t>(utf8proc_iterate(bytes, left, &code), 1);
    width += code > 0 ? utf8proc_charwidth(code) : 1;
    bytes += size;
    left -= size;
  }
  return width;
}

std::string padded(const std::string& text, int64_t width) {
  return text +
         std::string(static_cast<size_t>(std::max<int64_t>(width - display_width(text), 0)), ' ');
}

// A text must not move the cursor or change the colours of the terminal that shows it.
std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return text;
}

// Where a score stands between low and high, in [0, 1]; what is not finite counts as low.
double shade(const Heatmap& map, int64_t position, size_t depth) {
  const double score = map.scores[position][static_cast<int64_t>(depth)].item().toDouble();
  const double share = (score - map.low) / (map.high - map.low);
  return std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0.0;
}

struct Rgb {
  int red, green, blue;
};

// From nearly white to a dark blue.
Rgb colour_of(double share) {
  const auto mix = [&](double from, double to) {
    return static_cast<int>(std::lround(from + share * (to - from)));
  };
  return {mix(238, 8), mix(243, 58), mix(250, 130)};
}

// Positions that go side by side: from..to - 1.
struct WrappedLine {
  int64_t from, to;
};

std::vector<WrappedLine> wrapped(const Heatmap& map, int64_t columns) {
  std::vector<WrappedLine> lines;
  int64_t used = 0;
  for (int64_t p = 0; p < static_cast<int64_t>(map.positions.size()); ++p) {
    const int64_t width = display_width(map.positions[p]) + 1;
    if (lines.empty() || used + width > columns) {
      lines.push_back({p, p});
      used = 0;
    }
    used += width;
    lines.back().to = p + 1;
  }
  return lines;
}

int64_t label_width(const Heatmap& map) {
  int64_t width = 0;
  for (const std::string& depth : map.depths) width = std::max(width, display_width(depth));
  return width + 2;
}

void check(const Heatmap& map) {
  check_shape(
      "map.scores", map.scores,
      {static_cast<int64_t>(map.positions.size()), static_cast<int64_t>(map.depths.size())});
  require(map.low < map.high, "map.low", fmt::format("< map.high = {}", map.high), map.low);
}

}  // namespace

Heatmap heatmap(const Attribution& attribution, int64_t example, std::vector<std::string> names,
                std::string title) {
  require(example >= 0 && example < attribution.scores.size(0), "example",
          fmt::format("in 0..{}", attribution.scores.size(0) - 1), example);
  const at::Tensor chosen = attribution.mask[example].nonzero().squeeze(1);
  require(static_cast<int64_t>(names.size()) == chosen.size(0), "names",
          fmt::format("{} in number, one per position", chosen.size(0)), names.size());
  return {std::move(title), std::move(names), attribution.sites,
          attribution.scores[example].index_select(0, chosen).to(at::kCPU)};
}

std::string terminal_heatmap(const Heatmap& raw, bool colour, int64_t width) {
  check(raw);
  Heatmap map = raw;
  map.title = printable(map.title);
  for (std::string& position : map.positions) position = printable(position);
  const int64_t label = label_width(map);
  std::string text = map.title + "\n";
  for (const WrappedLine& line : wrapped(map, std::max<int64_t>(width - label, 1))) {
    text += std::string(static_cast<size_t>(label), ' ');
    for (int64_t p = line.from; p < line.to; ++p) text += map.positions[p] + " ";
    text += "\n";
    for (size_t depth = 0; depth < map.depths.size(); ++depth) {
      text += padded(map.depths[depth], label);
      for (int64_t p = line.from; p < line.to; ++p) {
        const double share = shade(map, p, depth);
        const auto cells = static_cast<size_t>(display_width(map.positions[p]));
        if (colour) {
          const Rgb c = colour_of(share);
          text += fmt::format("\033[48;2;{};{};{}m{}\033[0m ", c.red, c.green, c.blue,
                              std::string(cells, ' '));
        } else {
          text += padded(std::string(1, static_cast<char>('0' + std::lround(9 * share))),
                         static_cast<int64_t>(cells) + 1);
        }
      }
      text += "\n";
    }
  }
  return text;
}

std::string svg_heatmap(const Heatmap& map, int64_t width) {
  check(map);
  constexpr int64_t kColumn = 8, kRow = 16, kText = 22;  // of a 13 px font of fixed width
  const int64_t label = kColumn * label_width(map);
  const auto lines = wrapped(map, std::max<int64_t>((width - label) / kColumn, 1));
  const auto depths = static_cast<int64_t>(map.depths.size());
  const int64_t block = kText + depths * kRow + 10;
  int64_t widest = 0;
  std::string body;
  for (size_t i = 0; i < lines.size(); ++i) {
    const int64_t top = static_cast<int64_t>(i) * block;
    for (int64_t d = 0; d < depths; ++d) {
      body += fmt::format("<text x=\"0\" y=\"{}\" fill=\"#777\">{}</text>\n",
                          top + kText + d * kRow + 12, escaped(map.depths[d]));
    }
    int64_t x = label;
    for (int64_t p = lines[i].from; p < lines[i].to; ++p) {
      const int64_t word = kColumn * display_width(map.positions[p]);
      // What the last depth no longer needs is printed pale.
      const bool kept = depths > 0 && shade(map, p, static_cast<size_t>(depths - 1)) > 0.5;
      body += fmt::format("<text x=\"{}\" y=\"{}\" textLength=\"{}\" fill=\"{}\">{}</text>\n", x,
                          top + 15, word, kept ? "#111" : "#999", escaped(map.positions[p]));
      for (int64_t d = 0; d < depths; ++d) {
        const Rgb c = colour_of(shade(map, p, static_cast<size_t>(d)));
        body += fmt::format(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"#{:02x}{:02x}{:02x}\">"
            "<title>{} at {}: {:.3f}</title></rect>\n",
            x, top + kText + d * kRow, word + kColumn - 2, kRow - 2, c.red, c.green, c.blue,
            escaped(map.positions[p]), escaped(map.depths[d]), map.scores[p][d].item().toDouble());
      }
      x += word + kColumn;
    }
    widest = std::max(widest, x);
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" "
      "font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"13\" role=\"img\" "
      "aria-label=\"{2}\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n{3}</svg>\n",
      widest, block * static_cast<int64_t>(lines.size()), escaped(map.title), body);
}

std::string html_report(const std::string& title, const std::string& introduction,
                        const std::vector<Heatmap>& maps) {
  std::string body = "<p>not needed <span class=\"scale\"></span> needed</p>\n";
  for (const Heatmap& map : maps) {
    body +=
        fmt::format("<section>\n<h2>{}</h2>\n{}</section>\n", escaped(map.title), svg_heatmap(map));
  }
  return html_page(title, introduction, body);
}

std::string json_report(const std::vector<Heatmap>& maps) {
  nlohmann::json report = nlohmann::json::array();
  for (const Heatmap& map : maps) {
    check(map);
    nlohmann::json scores = nlohmann::json::array();
    for (int64_t p = 0; p < map.scores.size(0); ++p) {
      nlohmann::json row = nlohmann::json::array();
      for (int64_t d = 0; d < map.scores.size(1); ++d)
        row.push_back(map.scores[p][d].item().toDouble());
      scores.push_back(row);
    }
    report.push_back({{"title", map.title},
                      {"positions", map.positions},
                      {"depths", map.depths},
                      {"scores", scores}});
  }
  // A user's text need not be valid UTF-8; a report with a replacement character is better than
  // none.
  return report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace diffmask
