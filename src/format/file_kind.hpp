#pragma once
/// \file
/// What a file is that is not what was asked for, to be said in errors; private.

#include <string>

namespace diffmask {

/// What is known of the file by its first bytes or, for a zip archive, by its entries: "is empty",
/// "is a pickle that torch.save wrote: ..."; "" for anything unknown, TorchScript archives and
/// exported programs among them. Nothing is unpacked but the list of a pickle's names.
std::string known_kind(const std::string& path);

/// FileError, with what to do, where the file is known to be something else than a TorchScript
/// archive or an exported program.
void check_may_be_program(const std::string& path);

}  // namespace diffmask
