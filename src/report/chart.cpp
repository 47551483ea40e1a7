#include "diffmask/report/chart.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "diffmask/core/error.hpp"
#include "report/markup.hpp"

namespace diffmask {
namespace {

// Colours that stay apart for most colour-blind readers (Okabe and Ito 2008).
constexpr std::array<const char*, 6> kColours = {"#0072b2", "#d55e00", "#009e73",
                                                 "#cc79a7", "#e69f00", "#56b4e9"};

struct Axis {
  double low = INFINITY, high = -INFINITY;
  double from = 0, to = 1;  // pixels

  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  double place(double value) const {
    const double span = high > low ? high - low : 1.0;
    return from + (value - low) / span * (to - from);
  }
  // Round numbers of the range, some five: steps of 1, 2 or 5 times a power of ten.
  std::vector<double> ticks() const {
    if (high <= low) return {low};
    const double rough = (high - low) / 5, power = std::pow(10, std::floor(std::log10(rough)));
    const double step = power * (rough / power > 5 ? 10 : rough / power > 2 ? 5 : 2);
    std::vector<double> ticks;
    for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i) {
      ticks.push_back(i == 0 ? 0.0 : i * step);
    }
    return ticks;
  }
};

std::string text(double x, double y, const char* anchor, const std::string& what) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     escaped(what));
}

}  // namespace

std::string svg_chart(const Chart& chart, int64_t width, int64_t height) {
  constexpr int64_t kLeft = 64, kRight = 150, kTop = 32, kBottom = 48;  // legend at the right
  require(width > kLeft + kRight, "width", fmt::format("> {}", kLeft + kRight), width);
  require(height > kTop + kBottom, "height", fmt::format("> {}", kTop + kBottom), height);
  Axis x{.from = kLeft, .to = static_cast<double>(width - kRight)};
  Axis y{.from = static_cast<double>(height - kBottom), .to = kTop};
  for (const Curve& curve : chart.curves) {
    for (const auto& [at, value] : curve.points) {
      require(std::isfinite(at) && std::isfinite(value), fmt::format("curve '{}'", curve.name),
              "of finite points", fmt::format("({}, {})", at, value));
      x.add(at);
      y.add(value);
    }
  }
  require(x.low <= x.high, "curves", "with at least one point", "none");

  std::string body;
  for (const double tick : x.ticks()) {
    body += text(x.place(tick), y.from + 18, "middle", fmt::format("{:.4g}", tick));
  }
  for (const double tick : y.ticks()) {
    body += fmt::format("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n",
                        x.from, x.to, y.place(tick), y.place(tick));
    body += text(x.from - 8, y.place(tick) + 4, "end", fmt::format("{:.4g}", tick));
  }
  for (size_t i = 0; i < chart.curves.size(); ++i) {
    const Curve& curve = chart.curves[i];
    const char* colour = kColours[i % kColours.size()];
    std::string line;
    for (const auto& [at, value] : curve.points) {
      line += fmt::format("{:.1f},{:.1f} ", x.place(at), y.place(value));
      body += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"><title>{}: {:.4g}, "
          "{:.4g}</title></circle>\n",
          x.place(at), y.place(value), colour, escaped(curve.name), at, value);
    }
    const std::string stroke = fmt::format("fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}",
                                           colour, curve.dashed ? " stroke-dasharray=\"5 4\"" : "");
    body += fmt::format("<polyline points=\"{}\" {}/>\n", line, stroke);
    const double row = kTop + 18.0 * static_cast<double>(i);
    body += fmt::format("<polyline points=\"{:.1f},{:.1f} {:.1f},{:.1f}\" {}/>\n", x.to + 12, row,
                        x.to + 36, row, stroke);
    body += text(x.to + 42, row + 4, "start", curve.name);
  }
  body += text((x.from + x.to) / 2, static_cast<double>(height) - 10, "middle", chart.x_name);
  body += text(8, 18, "start", fmt::format("{} by {}", chart.y_name, chart.x_name));
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\" "
      "aria-label=\"{2}\">\n<title>{2}</title>\n<rect width=\"{0}\" height=\"{1}\" "
      "fill=\"#fff\"/>\n{3}</svg>\n",
      width, height, escaped(chart.title), body);
}

}  // namespace diffmask
