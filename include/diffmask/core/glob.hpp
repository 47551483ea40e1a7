#pragma once
/// \file
/// Patterns of dotted names: `*` stands for any characters but dots, `**` for any at all, `?` for
/// one, whatever number of bytes UTF-8 has for it.

#include <string>

namespace diffmask {

/// The regular expression (ECMAScript) that matches what a pattern does.
std::string glob_expression(const std::string& pattern);

/// Whether a pattern matches the whole name, in time linear in the name's length.
bool glob_matches(const std::string& pattern, const std::string& name);

}  // namespace diffmask
