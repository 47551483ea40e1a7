#include "diffmask/core/glob.hpp"

#include <cstring>

namespace diffmask {

std::string glob_expression(const std::string& pattern) {
  std::string expression;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern.compare(i, 2, "**") == 0) {
      expression += ".*";
      ++i;
    } else if (pattern[i] == '*') {
      expression += "[^.]*";
    } else if (pattern[i] == '?') {
      expression += '.';
    } else {
      if (std::strchr(R"(\^$.|+()[]{}/-)", pattern[i])) expression += '\\';
      expression += pattern[i];
    }
  }
  return expression;
}

}  // namespace diffmask
