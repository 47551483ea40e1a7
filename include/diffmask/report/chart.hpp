#pragma once
/// \file
/// Curves as a picture: what a mask costs by how much it takes, a metric by a depth.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace diffmask {

/// Points joined in their order.
struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;  ///< x, y; finite
  bool dashed = false;                            ///< for controls
};

struct Chart {
  std::string title, x_name, y_name;
  std::vector<Curve> curves;
};

/// The chart as SVG. Its axes span what the curves have. ArgumentError where no curve has a point,
/// or a point is not finite.
std::string svg_chart(const Chart& chart, int64_t width = 640, int64_t height = 400);

}  // namespace diffmask
