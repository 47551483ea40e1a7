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
/// Attributes that the model's forward sets live for one pass: the model is never changed.

#include <memory>
#include <string>

#include "diffmask/program/program.hpp"

namespace torch::jit {
struct Module;
}

namespace diffmask {

/// A module in memory; ArgumentError where it, or one within, is in training mode, has an input
/// that is no tensor and has no default, or uses an operator that this LibTorch does not have (all
/// of these are named).
std::shared_ptr<Program> script_model(const torch::jit::Module& module,
                                      const ProgramOptions& options = {});

/// An archive written by `torch.jit.save`; FileError where it cannot be read as one, or where its
/// code uses operators that this LibTorch lacks (all are named).
std::shared_ptr<Program> load_script(const std::string& path, const ProgramOptions& options = {});

}  // namespace diffmask
