#include "diffmask/core/glob.hpp"

#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace diffmask {
namespace {

// A text's characters, each with the bytes that UTF-8 has for it.
std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> result;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin + 1;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
    result.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return result;
}

}  // namespace

std::string glob_expression(const std::string& pattern) {
  std::string expression;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern.compare(i, 2, "**") == 0) {
      expression += ".*";
      ++i;
    } else if (pattern[i] == '*') {
      expression += "[^.]*";
    } else if (pattern[i] == '?') {
      expression += "[^\x80-\xBF][\x80-\xBF]*";
    } else {
      if (std::strchr(R"(\^$.|+()[]{}/-)", pattern[i])) expression += '\\';
      expression += pattern[i];
    }
  }
  return expression;
}

bool glob_matches(const std::string& pattern, const std::string& name) {
  const std::vector<std::string_view> parts = characters(pattern);
  std::vector<std::string_view> tokens;
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool is_double = parts[i] == "*" && i + 1 < parts.size() && parts[i + 1] == "*";
    tokens.push_back(is_double ? "**" : parts[i]);
    if (is_double) ++i;
  }
  // reached[t]: whether the name up to here is matched by the first t tokens.
  std::vector<bool> reached(tokens.size() + 1, false);
  reached[0] = true;
  const auto skip_stars = [&] {
    for (size_t t = 0; t < tokens.size(); ++t) {
      if (reached[t] && (tokens[t] == "*" || tokens[t] == "**")) reached[t + 1] = true;
    }
  };
  skip_stars();
  for (const std::string_view character : characters(name)) {
    std::vector<bool> next(reached.size(), false);
    for (size_t t = 0; t < tokens.size(); ++t) {
      if (!reached[t]) continue;
      if (tokens[t] == "**" || (tokens[t] == "*" && character != ".")) next[t] = true;
      if (tokens[t] == "?" || tokens[t] == character) next[t + 1] = true;
    }
    reached = std::move(next);
    skip_stars();
  }
  return reached.back();
}

}  // namespace diffmask
