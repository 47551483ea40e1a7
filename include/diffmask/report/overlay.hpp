#pragma once
/// \file
/// Attributions laid over images: a row per example, a column per depth. A patch that is not needed
/// is covered by a veil, the more so the lower its score; one that is needed is seen as it is.
///
///     std::vector<Overlay> rows = {overlay(attribution, 0, images[0], 7, "coat, predicted coat")};
///     write_file("coats.html", html_overlays("Coats", "What the classifier needs.", rows));

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"

namespace diffmask {

/// One example's row. All text is plain text; the page escapes it.
struct Overlay {
  std::string title;
  at::Tensor image;                 ///< (1, H, W) grey or (3, H, W) RGB, floating point in [0, 1]
  std::vector<std::string> depths;  ///< names of the D depths
  at::Tensor scores;                ///< (P, D) floating point: patches row by row
  int64_t columns = 1;              ///< patches across, a divisor of P; their rows are P / columns
  double low = 0.0, high = 1.0;     ///< scores that are covered and that are clear
};

/// The row of one example of an attribution, all of whose positions are patches of the image.
/// ArgumentError where the example is not in the batch.
Overlay overlay(const Attribution& attribution, int64_t example, const at::Tensor& image,
                int64_t columns, std::string title);

/// The image alone, then under the veil of each depth, as SVG; `width`: of one image, in pixels.
/// The number tells images apart that come on one page.
std::string svg_overlay(const Overlay& row, int64_t number = 0, int64_t width = 112);

/// A page of rows that needs nothing beside itself: no scripts, no pictures from elsewhere.
std::string html_overlays(const std::string& title, const std::string& introduction,
                          const std::vector<Overlay>& rows);

}  // namespace diffmask
