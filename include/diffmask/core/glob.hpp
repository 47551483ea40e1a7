#pragma once
/// \file
/// Patterns of dotted names: `*` stands for any characters but dots, `**` for any at all, `?` for
/// one.

#include <string>

namespace diffmask {

/// The regular expression (ECMAScript) that matches what a pattern does.
std::string glob_expression(const std::string& pattern);

}  // namespace diffmask
