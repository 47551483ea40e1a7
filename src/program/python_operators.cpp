#include "program/python_operators.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <utility>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

using Value = c10::IValue;

bool is_whole(const Value& value) { return value.isInt() || value.isBool(); }
int64_t whole(const Value& value) { return value.isBool() ? value.toBool() : value.toInt(); }
double real(const Value& value) {
  return value.isDouble() ? value.toDouble() : static_cast<double>(whole(value));
}

// An integer where both are, as in Python; a result that does not fit is an error.
template <typename OfWhole, typename OfReal>
Value arithmetic(const Value& a, const Value& b, const OfWhole& of_whole, const OfReal& of_real) {
  if (!is_whole(a) || !is_whole(b)) return of_real(real(a), real(b));
  int64_t result = 0;
  if (of_whole(whole(a), whole(b), &result)) throw Error("an integer overflows");
  return result;
}

Value divide(const Value& a, const Value& b) {
  require(real(b) != 0, "a divisor", "not 0", real(b));
  return arithmetic(
      a, b,
      [](int64_t x, int64_t y, int64_t* result) {
        if (y == -1) return __builtin_sub_overflow(int64_t{0}, x, result);
        *result = x / y - ((x % y != 0) && ((x < 0) != (y < 0)));
        return false;
      },
      [](double x, double y) { return std::floor(x / y); });
}

Value power(const Value& a, const Value& b) {
  if (!is_whole(a) || !is_whole(b) || whole(b) < 0) return std::pow(real(a), real(b));
  int64_t result = 1, base = whole(a);
  bool overflows = false;
  for (int64_t left = whole(b); left > 0; left /= 2) {
    if (left % 2) overflows |= __builtin_mul_overflow(result, base, &result);
    if (left > 1) overflows |= __builtin_mul_overflow(base, base, &base);
  }
  if (overflows) throw Error("an integer overflows");
  return result;
}

#define DIFFMASK_ARITHMETIC(builtin, symbol)                                         \
  arithmetic(                                                                        \
      v[0], v[1], [](int64_t x, int64_t y, int64_t* r) { return builtin(x, y, r); }, \
      [](double x, double y) { return x symbol y; })

using Operator = Value (*)(const Stack& v);

const std::map<std::string, std::pair<size_t, Operator>>& operators() {
  static const std::map<std::string, std::pair<size_t, Operator>> known = {
      {"_operator.add",
       {2, [](const Stack& v) -> Value { return DIFFMASK_ARITHMETIC(__builtin_add_overflow, +); }}},
      {"_operator.sub",
       {2, [](const Stack& v) -> Value { return DIFFMASK_ARITHMETIC(__builtin_sub_overflow, -); }}},
      {"_operator.mul",
       {2, [](const Stack& v) -> Value { return DIFFMASK_ARITHMETIC(__builtin_mul_overflow, *); }}},
      {"_operator.floordiv", {2, [](const Stack& v) -> Value { return divide(v[0], v[1]); }}},
      {"_operator.mod",
       {2,
        [](const Stack& v) -> Value {
          const Value quotient = divide(v[0], v[1]);
          if (quotient.isInt()) return whole(v[0]) - whole(v[1]) * quotient.toInt();
          return real(v[0]) - real(v[1]) * quotient.toDouble();
        }}},
      {"_operator.truediv", {2, [](const Stack& v) -> Value { return real(v[0]) / real(v[1]); }}},
      {"_operator.pow", {2, [](const Stack& v) -> Value { return power(v[0], v[1]); }}},
      {"_operator.neg",
       {1,
        [](const Stack& v) -> Value {
          return is_whole(v[0]) ? Value(-whole(v[0])) : Value(-real(v[0]));
        }}},
      {"_operator.pos", {1, [](const Stack& v) -> Value { return v[0]; }}},
      {"_operator.eq", {2, [](const Stack& v) -> Value { return real(v[0]) == real(v[1]); }}},
      {"_operator.ne", {2, [](const Stack& v) -> Value { return real(v[0]) != real(v[1]); }}},
      {"_operator.lt", {2, [](const Stack& v) -> Value { return real(v[0]) < real(v[1]); }}},
      {"_operator.le", {2, [](const Stack& v) -> Value { return real(v[0]) <= real(v[1]); }}},
      {"_operator.gt", {2, [](const Stack& v) -> Value { return real(v[0]) > real(v[1]); }}},
      {"_operator.ge", {2, [](const Stack& v) -> Value { return real(v[0]) >= real(v[1]); }}},
      {"_operator.and_",
       {2, [](const Stack& v) -> Value { return v[0].toBool() && v[1].toBool(); }}},
      {"_operator.or_",
       {2, [](const Stack& v) -> Value { return v[0].toBool() || v[1].toBool(); }}},
      {"torch.sym_not", {1, [](const Stack& v) -> Value { return !v[0].toBool(); }}},
      {"torch.sym_ite", {3, [](const Stack& v) -> Value { return v[0].toBool() ? v[1] : v[2]; }}},
      {"torch.sym_max",
       {2, [](const Stack& v) -> Value { return real(v[0]) >= real(v[1]) ? v[0] : v[1]; }}},
      {"torch.sym_min",
       {2, [](const Stack& v) -> Value { return real(v[0]) <= real(v[1]) ? v[0] : v[1]; }}},
      {"torch.sym_sqrt", {1, [](const Stack& v) -> Value { return std::sqrt(real(v[0])); }}},
      {"torch._sym_sqrt", {1, [](const Stack& v) -> Value { return std::sqrt(real(v[0])); }}},
      {"torch.sym_float", {1, [](const Stack& v) -> Value { return real(v[0]); }}},
      {"torch.sym_int",
       {1, [](const Stack& v) -> Value { return static_cast<int64_t>(real(v[0])); }}},
      {"math.trunc", {1, [](const Stack& v) -> Value { return static_cast<int64_t>(real(v[0])); }}},
      {"math.floor",
       {1, [](const Stack& v) -> Value { return static_cast<int64_t>(std::floor(real(v[0]))); }}},
      {"math.ceil",
       {1, [](const Stack& v) -> Value { return static_cast<int64_t>(std::ceil(real(v[0]))); }}}};
  return known;
}

#undef DIFFMASK_ARITHMETIC

}  // namespace

Call python_operator(const std::string& name) {
  const auto found = operators().find(name);
  if (found == operators().end()) return {};
  return [arguments = found->second.first, apply = found->second.second](Stack& stack) {
    require(stack.size() == arguments, "arguments", fmt::format("{}", arguments), stack.size());
    c10::IValue result = apply(stack);
    stack.assign(1, std::move(result));
  };
}

}  // namespace diffmask
