#pragma once
/// \file
/// Attributions as pictures: positions across, depths down, in a terminal, as SVG, HTML and JSON.
///
///     std::vector<Heatmap> maps = {heatmap(attribution, 0, {"a", "fine", "film"}, "review 17")};
///     write_file("report.html", html_report("Reviews", "What the classifier needs.", maps));

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"

namespace diffmask {

/// One example's picture. All text is plain text; the reports escape it.
struct Heatmap {
  std::string title;
  std::vector<std::string> positions;  ///< names of the P positions: words
  std::vector<std::string> depths;     ///< names of the D depths
  at::Tensor scores;                   ///< (P, D) floating point, on the CPU
  double low = 0.0, high = 1.0;        ///< scores shown in the palest and in the darkest colour
};

/// The picture of one example of an attribution. ArgumentError where the example is not in the
/// batch, or the number of names is not that of its explained positions.
Heatmap heatmap(const Attribution& attribution, int64_t example, std::vector<std::string> names,
                std::string title);

/// Lines of words with a row of cells a depth under each. With colour as ANSI backgrounds,
/// otherwise as digits 0..9 (9: high). Wrapped to `width` columns.
std::string terminal_heatmap(const Heatmap& map, bool colour, int64_t width = 100);

/// A picture of its own, `width` pixels wide at most.
std::string svg_heatmap(const Heatmap& map, int64_t width = 1000);

/// A page that needs nothing beside itself.
std::string html_report(const std::string& title, const std::string& introduction,
                        const std::vector<Heatmap>& maps);

/// [{"title", "positions": [P], "depths": [D], "scores": [P][D]}]
std::string json_report(const std::vector<Heatmap>& maps);

}  // namespace diffmask
