#pragma once
/// \file
/// A probe reads hidden states and gives one gate logit per position.
///
///     logits = g_phi(h)
///
/// A probe of one's own is a class with one function, and a factory that makes one for each depth:
///
///     ProbeFactory mine{.make = [](const ProbeInput& input, at::Generator generator) {
///                         return std::make_shared<MyProbe>(input.features, generator);
///                       },
///                       .part = {"my_probe"}};
///     DiffMask method(model, {.probe = mine});

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "diffmask/core/part.hpp"
#include "diffmask/core/random.hpp"

namespace diffmask {

/// What a training step leaves out of what probes read, so that they do not learn examples by heart
/// (core/random.hpp).
struct Dropout {
  double rate = 0.0;             ///< in [0, 1); 0 leaves all as it is
  at::Generator generator = {};  ///< where rate > 0, on the device of what is read

  at::Tensor operator()(const at::Tensor& x) const { return dropped_out(x, rate, generator); }
};

/// What a probe reads of a batch.
struct ProbeStates {
  at::Tensor features;       ///< (B, P, F): what there is at each position
  at::Tensor mask = {};      ///< (B, P) bool: false for padding, for probes that look around
  at::Tensor examples = {};  ///< (B) int64: each example's index in its data set
};

class Probe : public torch::nn::Module {
 public:
  /// logits = g_phi(h). Shape: (B, P).
  virtual at::Tensor logits(const ProbeStates& states, const Dropout& dropout = {}) = 0;

  /// Suits the first values to a sample of the states that will be read. Shape: features (N, F).
  virtual void start(const at::Tensor& /*features*/) {}

  /// Brings the parameters back into their allowed set, if there is one; called after each update.
  virtual void project() {}

  /// Adds a number to every logit, which moves the threshold of hard masks (train/calibrate.hpp).
  /// Returns false, and changes nothing, if the probe has no parameter that does this.
  virtual bool shift(double /*by*/) { return false; }
};

/// How many examples, of how many positions at most, values for each example are made for.
struct Capacity {
  int64_t examples = 0, positions = 0;
};

/// What a probe is made for.
struct ProbeInput {
  int64_t features = 0;    ///< F, of each position
  Capacity capacity = {};  ///< for probes that hold values for each example
};

/// Makes the probe of a depth.
struct ProbeFactory {
  std::function<std::shared_ptr<Probe>(const ProbeInput& input, at::Generator generator)> make;

  /// Name and options, by which an explainer file has it made again; none: it cannot be saved.
  Part part = {};

  /// Whether probes hold values for the very examples that they were fitted to, and read no state.
  /// Such an explainer is validated on the training data, and explains these alone.
  bool per_sample = false;
};

}  // namespace diffmask
