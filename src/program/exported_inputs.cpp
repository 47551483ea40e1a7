#include "program/exported_inputs.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <regex>
#include <string_view>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "program/exported_file.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

int64_t floor_divide(int64_t a, int64_t b) {
  return a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
}

// Recursive descent over name(argument, argument, ...); a number or a quoted text is a leaf.
class ExpressionParser {
 public:
  ExpressionParser(std::string_view text, const Symbols& symbols)
      : text_(text), symbols_(symbols) {}

  std::optional<int64_t> operator()() {
    const auto value = expression(0);
    return rest_is_empty() ? value : std::nullopt;
  }

 private:
  static constexpr int kDeepest = 100;

  bool rest_is_empty() const { return text_.empty(); }
  bool take(char c) {
    while (text_.starts_with(' ')) text_.remove_prefix(1);
    if (!text_.starts_with(c)) return false;
    text_.remove_prefix(1);
    return true;
  }
  std::string_view take_until(std::string_view stops) {
    const std::string_view taken = text_.substr(0, text_.find_first_of(stops));
    text_.remove_prefix(taken.size());
    return taken;
  }

  std::optional<int64_t> expression(int depth) {
    if (depth > kDeepest) return std::nullopt;
    while (text_.starts_with(' ')) text_.remove_prefix(1);
    const std::string_view name = take_until("(), ");
    if (!take('(')) return number(name);
    if (name == "Symbol") return symbol();
    if (name == "Integer") {
      const auto value = number(take_until(")"));
      return take(')') ? value : std::nullopt;
    }
    std::vector<int64_t> values;
    do {
      const auto value = expression(depth + 1);
      if (!value) return std::nullopt;
      values.push_back(*value);
    } while (take(','));
    return take(')') ? apply(name, values) : std::nullopt;
  }

  static std::optional<int64_t> number(std::string_view digits) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
    return value;
  }

  std::optional<int64_t> symbol() {
    if (!take('\'')) return std::nullopt;
    const std::string name(take_until("'"));
    take_until(")");
    const auto found = symbols_.find(name);
    if (!take(')') || found == symbols_.end()) return std::nullopt;
    return found->second;
  }

  static std::optional<int64_t> apply(std::string_view name, const std::vector<int64_t>& values) {
    int64_t result = values[0];
    for (size_t i = 1; i < values.size(); ++i) {
      const int64_t value = values[i];
      bool fails = false;
      if (name == "Add") {
        fails = __builtin_add_overflow(result, value, &result);
      } else if (name == "Mul") {
        fails = __builtin_mul_overflow(result, value, &result);
      } else if (name == "Max") {
        result = std::max(result, value);
      } else if (name == "Min") {
        result = std::min(result, value);
      } else if (value <= 0) {
        return std::nullopt;
      } else if (name == "FloorDiv" || name == "CleanDiv") {
        result = floor_divide(result, value);
      } else if (name == "CeilDiv") {
        result = -floor_divide(-result, value);
      } else if (name == "Mod" || name == "PythonMod") {
        result -= value * floor_divide(result, value);
      } else {
        return std::nullopt;
      }
      if (fails) return std::nullopt;
    }
    return result;
  }

  std::string_view text_;
  const Symbols& symbols_;
};

// One size of an input: a number, or an expression that may be a symbol alone.
struct Size {
  int64_t value = -1;
  std::string symbol, expression;
};

struct Range {
  int64_t least = 0, most = INT64_MAX;
};

struct Expected {
  std::string name;
  at::ScalarType dtype;
  std::vector<Size> sizes;
};

// Two sizes of inputs that have to be equal: (input, dimension) each, or a number for the second.
struct Equal {
  size_t input, dimension;
  int64_t other_input, other;  // other_input -1: `other` is a number
};

Size size_of(const json& value) {
  const auto [kind, member] = only_member(value);
  if (kind == "as_int") return {to_integer(member), "", ""};
  Size size{-1, "", to_text(member.at("expr_str"))};
  static const std::regex symbol(R"(Symbol\('(\w{1,40})'[^()]{0,80}\))");
  std::smatch match;
  if (std::regex_match(size.expression, match, symbol)) size.symbol = match[1];
  return size;
}

// "(3, s14 in 2..40)"
std::string described(const std::vector<Size>& sizes, const std::map<std::string, Range>& ranges) {
  std::vector<std::string> parts;
  for (const Size& size : sizes) {
    if (size.value >= 0) {
      parts.push_back(fmt::format("{}", size.value));
    } else if (!size.symbol.empty()) {
      const auto range = ranges.find(size.symbol);
      const bool is_bounded = range != ranges.end() && range->second.most != INT64_MAX;
      parts.push_back(is_bounded ? fmt::format("{} <= {}", size.symbol, range->second.most)
                                 : size.symbol);
    } else {
      parts.push_back(size.expression);
    }
  }
  return fmt::format("({})", fmt::join(parts, ", "));
}

// Torch writes what it found out about the inputs as Python; equalities are taken from there,
// bounds stand in the ranges, and what else there is only excludes sizes of 0 and 1.
std::vector<Equal> equalities(const json& program, const std::vector<std::string>& names) {
  std::vector<Equal> result;
  static const std::regex equal(
      R"(L\['(\w{1,80})'\]\.size\(\)\[(\d{1,3})\] == (?:L\['(\w{1,80})'\]\.size\(\)\[(\d{1,3})\]|(\d{1,18})))");
  const auto number_of = [&](const std::string& name) -> int64_t {
    const auto found = std::find(names.begin(), names.end(), name);
    return found == names.end() ? -1 : found - names.begin();
  };
  if (!program.contains("guards_code")) return result;
  for (const json& guard : program.at("guards_code")) {
    const std::string& text = to_text(guard);
    std::smatch match;
    if (text.size() > 400 || !std::regex_match(text, match, equal)) continue;
    const int64_t first = number_of(match[1]), second = match[3].matched ? number_of(match[3]) : -1;
    if (first < 0 || (match[3].matched && second < 0)) continue;
    result.push_back({static_cast<size_t>(first), std::stoul(match[2]), second,
                      std::stoll(match[3].matched ? match[4] : match[5])});
  }
  return result;
}

std::map<std::string, Range> ranges_of(const json& program) {
  std::map<std::string, Range> ranges;
  for (const auto& [name, bounds] : program.at("range_constraints").items()) {
    Range range;
    const json &least = bounds.at("min_val"), &most = bounds.at("max_val");
    // Torch assumes sizes of at least 2 when it traces, and does not mean it (it checks no such
    // bound itself).
    if (!least.is_null() && to_integer(least) > 2) range.least = to_integer(least);
    if (!most.is_null()) range.most = to_integer(most);
    ranges[name] = range;
  }
  return ranges;
}

// Whether inputs are those that the program was made for.
class InputCheck {
 public:
  InputCheck(const json& program, const std::vector<std::string>& names)
      : ranges_(ranges_of(program)), equal_(equalities(program, names)) {
    const json& values = program.at("graph_module").at("graph").at("tensor_values");
    for (const std::string& name : names) {
      const json& meta = values.at(name);
      Expected input{name, to_dtype(meta.at("dtype")), {}};
      for (const json& size : meta.at("sizes")) input.sizes.push_back(size_of(size));
      expected_.push_back(std::move(input));
    }
  }

  void operator()(const Inputs& inputs) const {
    Symbols symbols;
    for (size_t i = 0; i < expected_.size(); ++i) check_sizes(expected_[i], inputs[i], symbols);
    for (size_t i = 0; i < expected_.size(); ++i) {
      check_expressions(expected_[i], inputs[i], symbols);
    }
    for (const Equal& equal : equal_) check_equal(equal, inputs);
  }

 private:
  // Dtype, number of dimensions, and each size that is a number or a symbol, which it defines.
  void check_sizes(const Expected& want, const at::Tensor& input, Symbols& symbols) const {
    const std::string name = fmt::format("input '{}'", want.name);
    check_dtype(name, input, want.dtype);
    const auto wrong = [&] {
      return ArgumentError(name, fmt::format("of shape {}", described(want.sizes, ranges_)),
                           shape_string(input.sizes()));
    };
    if (input.dim() != static_cast<int64_t>(want.sizes.size())) throw wrong();
    for (size_t d = 0; d < want.sizes.size(); ++d) {
      const int64_t size = input.size(static_cast<int64_t>(d));
      const Size& wanted = want.sizes[d];
      if (wanted.value >= 0 && size != wanted.value) throw wrong();
      if (wanted.symbol.empty()) continue;
      const auto range = ranges_.find(wanted.symbol);
      if (range != ranges_.end() && (size < range->second.least || size > range->second.most)) {
        throw wrong();
      }
      const auto [known, is_new] = symbols.emplace(wanted.symbol, size);
      require(known->second == size,
              fmt::format("size {} of input '{}' ({})", d, want.name, wanted.symbol),
              fmt::format("{}, as before", known->second), size);
    }
  }

  // The sizes that are functions of symbols.
  void check_expressions(const Expected& want, const at::Tensor& input,
                         const Symbols& symbols) const {
    for (size_t d = 0; d < want.sizes.size(); ++d) {
      const Size& wanted = want.sizes[d];
      if (wanted.value >= 0 || !wanted.symbol.empty()) continue;
      const auto value = evaluate_expression(wanted.expression, symbols);
      const int64_t size = input.size(static_cast<int64_t>(d));
      require(!value || *value == size, fmt::format("size {} of input '{}'", d, want.name),
              fmt::format("{} = {}", wanted.expression, value.value_or(0)), size);
    }
  }

  void check_equal(const Equal& equal, const Inputs& inputs) const {
    const auto size_at = [&](size_t input, size_t dimension) {
      return dimension < expected_[input].sizes.size()
                 ? inputs[input].size(static_cast<int64_t>(dimension))
                 : -1;
    };
    const bool is_number = equal.other_input < 0;
    const int64_t other = is_number ? equal.other
                                    : size_at(static_cast<size_t>(equal.other_input),
                                              static_cast<size_t>(equal.other));
    const int64_t size = size_at(equal.input, equal.dimension);
    require(size == other,
            fmt::format("size {} of input '{}'", equal.dimension, expected_[equal.input].name),
            is_number ? fmt::format("{}", other)
                      : fmt::format("{}, as that of input '{}'", other,
                                    expected_[static_cast<size_t>(equal.other_input)].name),
            size);
  }

  std::vector<Expected> expected_;
  std::map<std::string, Range> ranges_;
  std::vector<Equal> equal_;
};

}  // namespace

std::optional<int64_t> evaluate_expression(const std::string& expression, const Symbols& symbols) {
  return ExpressionParser(expression, symbols)();
}

std::function<void(const Inputs&)> input_check(const json& program,
                                               const std::vector<std::string>& names) {
  return InputCheck(program, names);
}

}  // namespace diffmask
