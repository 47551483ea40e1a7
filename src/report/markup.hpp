#pragma once
#include <string>

namespace diffmask {

/// Text for HTML and SVG: nothing in it is markup, and what XML forbids is shown as a replacement.
std::string escaped(const std::string& text);

}  // namespace diffmask
