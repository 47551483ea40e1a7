#pragma once
/// \file
/// The baseline b: the vector that replaces a masked state, one per site, shared over positions.

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {

struct BaselineOptions {
  enum class Start {
    zero,   ///< the zero vector
    mean,   ///< the mean state over the positions of a typical training batch (typical_batch)
    given,  ///< `vectors`, one per masked site
  };
  Start start = Start::mean;
  std::vector<at::Tensor> vectors = {};  ///< for Start::given; each of its site's size
  bool learned = true;                   ///< trained with the probes; false: fixed where it starts

  void validate() const {
    require((start == Start::given) == !vectors.empty(), "baseline.vectors",
            "given with Start::given, and only then", fmt::format("{} vectors", vectors.size()));
  }
};

}  // namespace diffmask
