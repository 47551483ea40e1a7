#pragma once
/// \file
/// Initial weights from a generator that is handed in; LibTorch's constructors draw from a global
/// one.
///
///     torch::nn::Sequential net(torch::nn::Linear(3, 4), torch::nn::Tanh());
///     initialise(*net, make_generator(seed));

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>

namespace diffmask {

/// Draws every parameter anew, a module's before its children's: matrices from
/// U(-1/sqrt(fan in), 1/sqrt(fan in)), where the fan in of a GRU is its hidden size; embeddings
/// from N(0, 1); biases are 0, other vectors (the gains of norms) 1. The generator has to be on the
/// parameters' device.
void initialise(torch::nn::Module& module, at::Generator generator);

}  // namespace diffmask
