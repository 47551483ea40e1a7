#pragma once
/// \file
/// The check of an exported program's inputs: dtypes, sizes, symbols and their ranges; private.

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "diffmask/data/batch.hpp"

namespace diffmask {

/// Values of the symbols in sizes: "s4" -> 32.
using Symbols = std::map<std::string, int64_t>;

/// The value of an integer expression over symbols as torch.export writes it,
/// "Add(Mul(Symbol('s4', positive=True, integer=True), Integer(2)), Integer(-1))"; nothing where it
/// has a symbol without a value, a function that is not known, or no value. Depth is limited.
std::optional<int64_t> evaluate_expression(const std::string& expression, const Symbols& symbols);

/// What a program asks of its inputs. `names` are those of the inputs in order.
std::function<void(const Inputs&)> input_check(const nlohmann::json& program,
                                               const std::vector<std::string>& names);

}  // namespace diffmask
