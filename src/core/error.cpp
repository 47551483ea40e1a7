#include "diffmask/core/error.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace diffmask {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace

ArgumentError::ArgumentError(std::string_view argument, std::string_view rule,
                             std::string_view value)
    : Error(fmt::format("{} has to be {}, but got {}", argument, rule, value)),
      argument_(argument) {}

FileError::FileError(std::string_view path, std::string_view problem)
    : Error(fmt::format("{}: {}", path, problem)) {}

FileError::FileError(std::string_view path, int64_t line, std::string_view problem)
    : Error(fmt::format("{}:{}: {}", path, line, problem)) {}

std::string number_text(double value) { return fmt::format("{}", value); }
std::string number_text(int64_t value) { return fmt::format("{}", value); }
std::string number_text(uint64_t value) { return fmt::format("{}", value); }

std::string with_nearest(std::string_view name, const std::vector<std::string>& known) {
  std::vector<std::string> nearest = known;
  std::erase(nearest, "");  // what has no name cannot be named
  std::stable_sort(nearest.begin(), nearest.end(), [&](const auto& a, const auto& b) {
    return edit_distance(name, a) < edit_distance(name, b);
  });
  nearest.resize(std::min<size_t>(nearest.size(), 3));
  if (nearest.empty()) return fmt::format("'{}'", name);
  return fmt::format("'{}' (nearest: {})", name, fmt::join(nearest, ", "));
}

}  // namespace diffmask
