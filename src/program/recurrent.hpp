#pragma once
/// \file
/// Recurrent operators (rnn_tanh, rnn_relu, gru, lstm; packed or not, or a step's *_cell), taken
/// apart into steps of one elementary operator each, so that a rule of the parts is one of the
/// whole. With x the input at a step and h, c the state before it, a layer in one direction is
///
///     rnn    h' = f(W x + b + U h + d), f tanh or relu
///     gru    r, z = sigmoid(W x + b + U h + d), n = tanh(W x + b + r (U h + d))
///            h' = (1 - z) n + z h
///     lstm   i, f, o = sigmoid(W x + b + U h + d), g = tanh(W x + b + U h + d)
///            c' = f c + i g, h' = o tanh(c'), or P o tanh(c') where it is projected
///
/// each gate with weights of its own; 1 - z is sigmoid(-a) of z = sigmoid(a), in which no constant
/// takes a share. Private.

#include <vector>

#include "program/program_graph.hpp"

namespace diffmask {

bool is_recurrent(const Step& step);

/// Steps that give the outputs of `step`, for inputs of these lengths. The slots that they need are
/// put behind `values`. ArgumentError where dropout is at work between layers.
std::vector<Step> unrolled(const Step& step, const Stack& inputs, Stack& values);

}  // namespace diffmask
