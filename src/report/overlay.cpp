#include "diffmask/report/overlay.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "report/markup.hpp"

namespace diffmask {
namespace {

void check(const Overlay& row) {
  check_finite("row.image", row.image);
  const int64_t channels = row.image.dim() == 3 ? row.image.size(0) : 0;
  require(channels == 1 || channels == 3, "row.image", "of shape (1, H, W) or (3, H, W)",
          shape_string(row.image.sizes()));
  check_shape("row.image", row.image, {channels, -1, -1});
  check_shape("row.scores", row.scores, {-1, static_cast<int64_t>(row.depths.size())});
  require(row.columns >= 1 && row.scores.size(0) % row.columns == 0, "row.columns",
          fmt::format("a divisor of the number of patches, {}", row.scores.size(0)), row.columns);
  require(row.low < row.high, "row.low", fmt::format("< row.high = {}", row.high), row.low);
}

// The image's cells as rectangles of 1 x 1, like neighbours in one.
std::string cells(const at::Tensor& image) {
  const at::Tensor bytes =
      image.to(at::kCPU, at::kDouble).clamp(0, 1).mul(255).round().to(at::kInt);
  const at::Tensor colours = bytes.expand({3, -1, -1}).permute({1, 2, 0}).contiguous();
  const auto rgb = colours.accessor<int, 3>();
  const auto colour = [&](int64_t y, int64_t x) {
    return rgb[y][x][0] << 16 | rgb[y][x][1] << 8 | rgb[y][x][2];
  };
  const int64_t height = colours.size(0), width = colours.size(1);
  std::string body =
      fmt::format("<rect width=\"{}\" height=\"{}\" fill=\"#000000\"/>", width, height);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0, end = 0; x < width; x = end) {
      const int here = colour(y, x);
      for (end = x + 1; end < width && colour(y, end) == here;) ++end;
      if (here == 0) continue;  // as the ground
      body += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"1\" fill=\"#{:06x}\"/>", x,
                          y, end - x, here);
    }
  }
  return body;
}

// A depth's veil over patches. What is not finite is covered.
std::string veil(const Overlay& row, int64_t depth) {
  const auto height = static_cast<double>(row.image.size(1));
  const auto width = static_cast<double>(row.image.size(2));
  const int64_t patches = row.scores.size(0), rows = patches / row.columns;
  const double across = width / static_cast<double>(row.columns);
  const double down = height / static_cast<double>(rows);
  std::string body;
  for (int64_t p = 0; p < patches; ++p) {
    const double score = row.scores[p][depth].item().toDouble();
    const double share = (score - row.low) / (row.high - row.low);
    const double cover = std::isfinite(share) ? 1 - std::clamp(share, 0.0, 1.0) : 1.0;
    body += fmt::format(
        "<rect x=\"{:g}\" y=\"{:g}\" width=\"{:g}\" height=\"{:g}\" fill-opacity=\"{:.3f}\">"
        "<title>row {}, column {}: {:.3f}</title></rect>",
        across * static_cast<double>(p % row.columns), down * static_cast<double>(p / row.columns),
        across, down, 0.9 * cover, p / row.columns, p % row.columns, score);
  }
  return body;
}

}  // namespace

Overlay overlay(const Attribution& attribution, int64_t example, const at::Tensor& image,
                int64_t columns, std::string title) {
  require(example >= 0 && example < attribution.scores.size(0), "example",
          fmt::format("in 0..{}", attribution.scores.size(0) - 1), example);
  Overlay row{std::move(title), image, attribution.sites, attribution.scores[example].to(at::kCPU),
              columns};
  check(row);
  return row;
}

std::string svg_overlay(const Overlay& row, int64_t number, int64_t width) {
  check(row);
  require(width >= 1, "width", ">= 1", width);
  constexpr int64_t kGap = 12, kText = 20;
  const int64_t columns = static_cast<int64_t>(row.depths.size()) + 1;
  const double scale = static_cast<double>(width) / static_cast<double>(row.image.size(2));
  const double height = scale * static_cast<double>(row.image.size(1));
  // The cells are written once and shown by every column.
  std::string body =
      fmt::format("<defs><g id=\"image{}\" shape-rendering=\"crispEdges\">{}</g></defs>\n", number,
                  cells(row.image));
  for (int64_t column = 0; column < columns; ++column) {
    const int64_t depth = column - 1;
    const std::string name =
        column == 0 ? "as it is" : escaped(row.depths[static_cast<size_t>(depth)]);
    body += fmt::format(
        "<g transform=\"translate({0} 0)\"><text y=\"13\">{1}</text>\n"
        "<g transform=\"translate(0 {2}) scale({3:g})\"><use href=\"#image{4}\"/>"
        "<g fill=\"#dbe7f7\">{5}</g></g></g>\n",
        column * (width + kGap), name, kText, scale, number, column == 0 ? "" : veil(row, depth));
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1:g}\" viewBox=\"0 0 {0} "
      "{1:g}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\" "
      "aria-label=\"{2}\">\n{3}</svg>\n",
      columns * (width + kGap) - kGap, kText + height, escaped(row.title), body);
}

std::string html_overlays(const std::string& title, const std::string& introduction,
                          const std::vector<Overlay>& rows) {
  std::string body = "<p>Covered: not needed. Clear: needed.</p>\n";
  for (size_t i = 0; i < rows.size(); ++i) {
    body += fmt::format("<section>\n<h2>{}</h2>\n{}</section>\n", escaped(rows[i].title),
                        svg_overlay(rows[i], static_cast<int64_t>(i)));
  }
  return html_page(title, introduction, body);
}

}  // namespace diffmask
