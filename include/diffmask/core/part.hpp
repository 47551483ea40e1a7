#pragma once
/// \file
/// Exchangeable parts by name: how files and configurations say which gate, probe, penalty or
/// schedule is meant, and how it is found again.
///
///     Part part = part_of("hard_concrete", HardConcreteOptions{.tau = 0.3});
///     auto options = options_of<HardConcreteOptions>(part);
///     const Penalty& penalty = named("penalty", "log_odds", penalty::ready());

#include <fmt/format.h>

#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {

/// What a file keeps of a part: its name, and its options as numbers. A part without a name works,
/// but cannot be saved.
struct Part {
  std::string name = {};
  std::map<std::string, double> options = {};

  bool operator==(const Part&) const = default;
};

/// The part of this name with these options. `Options` names its fields once, for both directions:
///
///     template <typename Visit> void visit(Visit visit) { visit("tau", tau); ... }
template <typename Options>
Part part_of(std::string name, Options options) {
  Part part{std::move(name), {}};
  options.visit(
      [&](const char* key, auto& value) { part.options[key] = static_cast<double>(value); });
  return part;
}

/// The part's options; ArgumentError where one is missing, or is none of these.
template <typename Options>
Options options_of(const Part& part) {
  Options options;
  std::map<std::string, double> left = part.options;
  options.visit([&](const char* key, auto& value) {
    const auto found = left.find(key);
    require(found != left.end(), fmt::format("options of '{}'", part.name),
            fmt::format("given with '{}'", key), "others");
    value = static_cast<std::remove_reference_t<decltype(value)>>(found->second);
    left.erase(found);
  });
  require(left.empty(), fmt::format("options of '{}'", part.name), "its own",
          left.empty() ? "" : left.begin()->first);
  return options;
}

/// The entry of this name; ArgumentError, with the nearest names, where there is none.
template <typename Value>
const Value& named(std::string_view argument, const std::string& name,
                   const std::map<std::string, Value>& known) {
  const auto found = known.find(name);
  if (found != known.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [key, value] : known) names.push_back(key);
  throw ArgumentError(argument, "a known one", with_nearest(name, names));
}

}  // namespace diffmask
