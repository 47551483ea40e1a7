#pragma once
/// \file
/// diffmask check: whether resuming gives what the model gives; private.

#include "cli/model_file.hpp"

namespace diffmask::cli {

void add_check(CLI::App& command, ModelOptions& options);

/// Prints how far the outputs, recorded and resumed at each site, are from the expected one.
int check(const ModelOptions& options);

}  // namespace diffmask::cli
