#pragma once
/// \file
/// TorchScript models as programs.
///
///     auto model = load_script("bert.pt");
///     model->select("bert.encoder.layer.*");
///
/// The module is inlined call by call. Each call of a submodule's forward is a site under the
/// object's path ("bert.encoder.layer.3"; the second call of one object is "name#1"); of a tuple,
/// list or dictionary each tensor is one ("name[0]", "name[1][0]", "name[logits]"). An `if` whose
/// condition is known beforehand (`self.training`) is resolved; other ifs and loops run as one step
/// each, and what is called within them is not a site.
///
/// Inputs may be optional, numbers, lists, tuples, and dictionaries whose keys the code names; each
/// tensor in them is an input, "x[0]", "x[key]" (ProgramOptions::given). Lists and dictionaries
/// that are filled one by one are followed. What is forked runs in place; constants of another
/// device move to the model's.
///
/// Attributes that the model's forward sets live for one pass: the model is never changed.
/// Operators that draw random numbers or update statistics are refused (ProgramOptions::
/// allow_chance); a module's flag for training only counts where something depends on it.

#include <memory>
#include <string>

#include "diffmask/program/program.hpp"

namespace torch::jit {
struct Module;
}

namespace diffmask {

/// A module in memory; ArgumentError where an operator works as in training (all are named), where
/// an input's type is not supported, or where it has no such method; Error for operators that this
/// LibTorch does not have (all are named).
std::shared_ptr<Program> script_model(const torch::jit::Module& module,
                                      const ProgramOptions& options = {});

/// An archive written by `torch.jit.save`; FileError where it cannot be read as one, or where its
/// code uses operators that this LibTorch lacks (all are named).
std::shared_ptr<Program> load_script(const std::string& path, const ProgramOptions& options = {});

}  // namespace diffmask
