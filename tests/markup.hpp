#pragma once
/// \file
/// What tests ask of HTML and SVG.

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace diffmask {

/// How often a part stands in a text.
inline int64_t count(const std::string& text, const std::string& part) {
  int64_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

/// That every tag that opens is closed, in order; the names of all tags.
inline std::set<std::string> expect_nested(const std::string& markup) {
  std::set<std::string> names;
  std::vector<std::string> open;
  for (size_t at = 0; (at = markup.find('<', at)) != std::string::npos;) {
    const size_t end = markup.find('>', at);
    const std::string tag = markup.substr(at + 1, end - at - 1);
    at = end;
    if (tag.starts_with("!DOCTYPE") || tag.ends_with("/") || tag.starts_with("meta")) continue;
    const std::string name = tag.substr(0, tag.find(' '));
    if (name.starts_with("/")) {
      if (open.empty() || "/" + open.back() != name) {
        ADD_FAILURE() << "<" << name << "> closes " << (open.empty() ? "nothing" : open.back());
        return names;
      }
      open.pop_back();
    } else {
      open.push_back(name);
      names.insert(name);
    }
  }
  EXPECT_TRUE(open.empty()) << open.back() << " is not closed";
  return names;
}

}  // namespace diffmask
