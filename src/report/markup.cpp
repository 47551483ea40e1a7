#include "report/markup.hpp"

#include <fmt/format.h>

namespace diffmask {

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t'
                      ? "\uFFFD"
                      : std::string(1, c);
    }
  }
  return result;
}

std::string html_page(const std::string& title, const std::string& introduction,
                      const std::string& body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta "
      "charset=\"utf-8\">\n<title>{0}</title>\n<style>\n"
      "body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1040px; margin: 2em auto; padding: "
      "0 1em;"
      " color: #222; background: #fff }}\n"
      "h2 {{ font-size: 14px; font-weight: 600; margin: 1.6em 0 .4em }}\nsection {{ overflow-x: "
      "auto }}\n"
      "p {{ white-space: pre-line }}\n"
      ".scale {{ display: inline-block; width: 12em; height: 1em; vertical-align: middle;"
      " background: linear-gradient(90deg, #eef3fa, #083a82) }}\n"
      "</style>\n</head>\n<body>\n<h1>{0}</h1>\n<p>{1}</p>\n{2}</body>\n</html>\n",
      escaped(title), escaped(introduction), body);
}

}  // namespace diffmask
