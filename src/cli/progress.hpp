#pragma once
/// \file
/// How far the program is, while it works: one line on stderr, where that is a terminal; private.
///
///     ProgressLine line;
///     for (...) line.show("3 of 12: encoder.layer.2");   // the line is gone when `line` is

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

namespace diffmask::cli {

inline bool has_terminal() { return ::isatty(STDERR_FILENO) == 1; }

class ProgressLine {
 public:
  ProgressLine() = default;
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() { show(""); }

  void show(std::string_view text) const {
    if (!has_terminal()) return;
    fmt::print(stderr, "\r\x1b[K{}", text);  // to the line's begin, and clear it
    std::fflush(stderr);
  }

  void show(size_t index, size_t count, std::string_view name) const {
    show(fmt::format("{} of {}: {}", index + 1, count, name));
  }
};

}  // namespace diffmask::cli
