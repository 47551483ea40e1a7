#include "program/exported_arguments.hpp"

#include <ATen/ATen.h>
#include <ATen/ScalarOps.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

using c10::TypeKind;
using nlohmann::json;

bool is_integer(const c10::Type& type) {
  return type.kind() == TypeKind::IntType || type.kind() == TypeKind::SymIntType;
}

at::Tensor wrapped(const at::Scalar& number) { return at::native::wrapped_scalar_tensor(number); }

// JSON has no infinities: torch writes them as texts.
double to_double(const json& value) {
  if (!value.is_string()) {
    require(value.is_number(), "a number", "a float", value.dump());
    return value.get<double>();
  }
  const std::string& text = to_text(value);
  require(text == "Infinity" || text == "-Infinity" || text == "NaN", "a number", "a float", text);
  return text == "NaN" ? NAN : text == "Infinity" ? INFINITY : -INFINITY;
}

}  // namespace

Slot ExportedArguments::operator()(const json& argument, c10::TypePtr type, int32_t repeat,
                                   const ExportedGraph::Scope& scope) {
  const auto [kind, value] = only_member(argument);
  if (kind == "as_none") return builder_.constant({});
  if (kind == "as_optional_tensor") return (*this)(value, std::move(type), repeat, scope);
  if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  if (const auto list = type->cast<c10::ListType>())
    return this->list(kind, value, *list, repeat, scope);
  if (kind == "as_tensor") return graph_.slot(scope, to_text(value.at("name")));
  if (kind == "as_sym_int" || kind == "as_sym_float" || kind == "as_sym_bool") {
    const auto [form, what] = only_member(value);
    if (form != "as_name") return builder_.constant(literal(form, what, *type));
    const Slot number = graph_.slot(scope, to_text(what));
    if (type->kind() != TypeKind::TensorType) return number;
    return builder_.compute("a number as a tensor",
                            [](Stack& stack) { stack[0] = wrapped(stack[0].toScalar()); },
                            {number});
  }
  return builder_.constant(literal(kind, value, *type));
}

// "as_ints": [1, 2], "as_tensors": [...], "as_sym_ints": [{"as_int": 1}, {"as_name": "s"}], ...
Slot ExportedArguments::list(const std::string& kind, const json& value, const c10::ListType& type,
                             int32_t repeat, const ExportedGraph::Scope& scope) {
  c10::TypePtr element = type.getElementType();
  if (is_integer(*element)) element = c10::IntType::get();
  std::vector<Slot> elements;
  const auto add = [&](const json& item) { elements.push_back((*this)(item, element, 1, scope)); };
  if (!value.is_array()) {
    elements.assign(static_cast<size_t>(repeat),
                    (*this)(json::object({{kind, value}}), element, 1, scope));
  } else if (kind == "as_tensors") {
    for (const json& item : value) add(json::object({{"as_tensor", item}}));
  } else if (kind == "as_optional_tensors") {
    for (const json& item : value) add(item);
  } else {  // "as_ints" and the like: each item is an "as_int"
    for (const json& item : value) add(json::object({{kind.substr(0, kind.size() - 1), item}}));
  }
  const auto is_known = [&](Slot slot) { return builder_.is_constant(slot); };
  if (element->kind() != TypeKind::TensorType && element->kind() != TypeKind::OptionalType &&
      std::all_of(elements.begin(), elements.end(), is_known)) {
    c10::impl::GenericList known(element);
    for (const Slot slot : elements) known.push_back(builder_.value(slot));
    return builder_.constant(std::move(known));
  }
  return builder_.construct(c10::ListType::create(element), std::move(elements));
}

c10::IValue ExportedArguments::literal(const std::string& kind, const json& value,
                                       const c10::Type& type) const {
  c10::IValue result;
  if (kind == "as_int") {
    result = to_integer(value);
  } else if (kind == "as_float") {
    result = to_double(value);
  } else if (kind == "as_bool") {
    result = value.get<bool>();
  } else if (kind == "as_complex") {
    result = c10::complex<double>(to_double(value.at("real")), to_double(value.at("imag")));
  } else if (kind == "as_string") {
    return to_text(value);
  } else if (kind == "as_device") {
    return device_;  // where the weights are, whatever it was when it was exported
  } else if (kind == "as_scalar_type") {
    return static_cast<int64_t>(to_dtype(value));
  } else if (kind == "as_layout") {
    require(to_integer(value) == 7, "layout", "strided (7)", value.dump());
    return static_cast<int64_t>(at::kStrided);
  } else if (kind == "as_memory_format") {
    static constexpr at::MemoryFormat kFormats[] = {
        at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast,
        at::MemoryFormat::ChannelsLast3d, at::MemoryFormat::Preserve};
    const int64_t number = to_integer(value);
    require(number >= 1 && number <= 4, "memory_format", "in 1..4", number);
    return static_cast<int64_t>(kFormats[number - 1]);
  } else {
    throw Error(fmt::format("an argument of the kind '{}' is not supported", kind));
  }
  if (type.kind() == TypeKind::TensorType) return wrapped(result.toScalar());
  if (type.kind() == TypeKind::FloatType && result.isInt()) {
    return static_cast<double>(result.toInt());
  }
  return result;
}

}  // namespace diffmask
