#pragma once
/// \file
/// Reads and writes a module's parameters and buffers as safetensors files, by name.
///
///     save_weights(*net, "classifier.safetensors");
///     load_weights(*other, "classifier.safetensors");   // a module of the same structure

#include <torch/nn/module.h>

#include <string>

namespace diffmask {

/// Copies each tensor of the file into the module's tensor of the same name, on whatever device
/// that is. FileError, with the module unchanged, if a tensor is missing or surplus, or has another
/// shape or dtype.
void load_weights(torch::nn::Module& module, const std::string& path);

void save_weights(const torch::nn::Module& module, const std::string& path);

}  // namespace diffmask
