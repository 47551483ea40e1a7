#pragma once
/// \file
/// Programs written by `torch.export.save` (`.pt2`), read by C++ alone on any LibTorch.
///
///     auto model = load_exported("bert.pt2");
///     model->select("bert.encoder.layer.*");
///
/// The archive's graph is a list of operator calls; each is looked up in LibTorch's dispatcher and
/// called as it stands, so gradients flow as in PyTorch. No code comes from the file. A module's
/// call is a site under its path, "name#1" for its second call; its outputs are what later steps
/// use of it: "name", or "name[0]", "name[1]", ... where they use several tensors. A module that
/// hands on its input as it is leaves no trace in the file, and is no site.
///
/// `wrap_with_set_grad_enabled` and `wrap_with_autocast` are followed into, `cond`, `while_loop`, `scan` and `map` run as one
/// step each and hide their inside. In-graph assertions are not run: inputs are checked instead,
/// for dtype, sizes, symbolic ranges, and sizes that have to be equal.
///
/// Source: torch/_export/serde/schema.py of PyTorch 2.13, schema version 8.

#include <memory>
#include <string>

#include "diffmask/program/program.hpp"

namespace diffmask {

/// FileError, with the entry and the reason, for a file that is no such archive, damaged or
/// inconsistent, of another schema version, with operators at work as in training, or with operators that this
/// LibTorch lacks (all are named); ArgumentError where it has no output `options.output`.
std::shared_ptr<Program> load_exported(const std::string& path, const ProgramOptions& options = {});

/// Whether the archive holds an exported program; FileError where it is no archive.
bool is_exported(const std::string& path);

/// Either kind of archive, by what it holds: an exported program, or TorchScript.
std::shared_ptr<Program> load_program(const std::string& path, const ProgramOptions& options = {});

}  // namespace diffmask
