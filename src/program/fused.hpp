#pragma once
/// \file
/// Operators for speed that have no derivative, taken apart into operators that have one; private.
///
///     _native_multi_head_attention     softmax(q k' / sqrt(d)) v, between linear layers
///     _transformer_encoder_layer_fwd   nn.TransformerEncoderLayer, which PyTorch runs as one
///                                      operator where gradients are off when it is traced

#include <ATen/core/function_schema.h>

#include <optional>
#include <string>
#include <vector>

#include "program/program_graph.hpp"

namespace diffmask {

/// The outputs of the operator's parts, added to a program; empty for all other operators.
std::optional<std::vector<Slot>> in_parts(ProgramBuilder& builder, const Step& step,
                                          const c10::FunctionSchema& schema);

}  // namespace diffmask
