#pragma once
/// \file
/// Errors that name what is wrong, the rule it breaks, and the value that broke it.
///
/// Every error of the library reads "<argument> has to be <rule>, but got <value>", and is thrown
/// as early as possible: before anything is computed, written or changed.

#include <fmt/format.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace diffmask {

/// The base of everything the library throws on purpose.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An argument or option breaks its rule: "epsilon has to be > 0, but got -1".
class ArgumentError : public Error {
 public:
  ArgumentError(std::string_view argument, std::string_view rule, std::string_view value);
  const std::string& argument() const { return argument_; }

 private:
  std::string argument_;
};

/// A file cannot be read, written or understood: "reviews.tsv:17: rating has to be ...".
class FileError : public Error {
 public:
  FileError(std::string_view path, std::string_view problem);
  FileError(std::string_view path, int64_t line, std::string_view problem);
};

/// A number as an error shows it: fmt's "{}". Defined apart, so that a unit with many checks does
/// not compile fmt's formatting for each.
std::string number_text(double value);
std::string number_text(int64_t value);
std::string number_text(uint64_t value);

/// Throws ArgumentError unless `holds`; `value` is anything fmt can print.
template <typename Value>
void require(bool holds, std::string_view argument, std::string_view rule, const Value& value) {
  if (holds) return;
  if constexpr (std::is_convertible_v<const Value&, std::string_view>) {
    throw ArgumentError(argument, rule, value);
  } else if constexpr (std::is_same_v<Value, double>) {
    throw ArgumentError(argument, rule, number_text(value));
  } else if constexpr (std::is_integral_v<Value> && !std::is_same_v<Value, bool> &&
                       !std::is_same_v<Value, char>) {
    using Wide = std::conditional_t<std::is_signed_v<Value>, int64_t, uint64_t>;
    throw ArgumentError(argument, rule, number_text(static_cast<Wide>(value)));
  } else {
    throw ArgumentError(argument, rule, fmt::format("{}", value));
  }
}

/// "'gru.O' (nearest: gru.0, gru.1)": a name that is not in `known`, beside its nearest ones.
std::string with_nearest(std::string_view name, const std::vector<std::string>& known);

}  // namespace diffmask
