#pragma once
/// \file
/// Sites: the named hidden states of a model that can be recorded and replaced.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace diffmask {

struct Site {
  std::string name;       ///< unique within its model: "embedding", "gru.0", "bert.encoder.layer.3"
  int64_t depth = 0;      ///< its place in execution order, from 0
  std::string type = {};  ///< of the module whose output it is, where that is known: "BertLayer"
  int64_t step = -1;      ///< of a program: the number of the step that gives it
  bool is_input = false;  ///< of a program: one of the model's own inputs, "input0"
  /// Of a program: whether it is the same whatever the inputs hold, as a weight or a table of
  /// positions is. It has no row per example.
  bool is_fixed = false;
};

/// Is handed each site's state while a model runs, and gives back the state to run on with.
class Tap {
 public:
  virtual ~Tap() = default;
  virtual at::Tensor operator()(const std::string& site, const at::Tensor& state) = 0;
};

/// A state to put in a site's place.
struct Replacement {
  std::string site;
  at::Tensor state;
};

}  // namespace diffmask
