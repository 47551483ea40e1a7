#pragma once
/// \file
/// A module's parameters and buffers from and to safetensors files, by name.

#include <torch/nn/module.h>

#include <string>

namespace diffmask {

/// Copies each tensor of the file into the module's of the same name. FileError, with the module
/// unchanged, where a tensor is missing, surplus, or of another shape or dtype.
void load_weights(torch::nn::Module& module, const std::string& path);

void save_weights(const torch::nn::Module& module, const std::string& path);

}  // namespace diffmask
