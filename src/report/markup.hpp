#pragma once
#include <string>

namespace diffmask {

/// Text for HTML and SVG: nothing in it is markup, and what XML forbids is shown as a replacement.
std::string escaped(const std::string& text);

/// A page of its own: title and introduction are text, the body is markup.
std::string html_page(const std::string& title, const std::string& introduction,
                      const std::string& body);

}  // namespace diffmask
