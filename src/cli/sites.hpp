#pragma once
/// \file
/// diffmask sites: the hidden states that can be recorded and replaced; private.

#include "cli/model_file.hpp"

namespace diffmask::cli {

void add_sites(CLI::App& command, ModelOptions& options);

/// Prints the sites; with inputs also their shapes and dtypes.
int list_sites(const ModelOptions& options);

}  // namespace diffmask::cli
