#pragma once
/// \file
/// Initial weights from a generator that is handed in: LibTorch's own constructors draw from a
/// global one.

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>

namespace diffmask {

/// Draws every parameter anew, its own before its children's:
/// matrices from U(-1/sqrt(fan in), 1/sqrt(fan in)), where the fan in of a GRU is its hidden size;
/// embeddings from N(0, 1); biases are 0, other vectors (the gains of norms) 1.
void initialise(torch::nn::Module& module, at::Generator generator);

}  // namespace diffmask
