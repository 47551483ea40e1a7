#pragma once
/// \file
/// The baseline b: the vector that replaces a masked state, one a site, shared over positions.

#include <ATen/core/Tensor.h>

#include <vector>

namespace diffmask {

struct BaselineOptions {
  enum class Start {
    zero,   ///< the zero vector
    mean,   ///< the mean state over the first training batch's positions
    given,  ///< `vectors`, one a masked site
  };
  Start start = Start::mean;
  std::vector<at::Tensor> vectors = {};  ///< for Start::given; each of its site's size
  bool learned = true;                   ///< trained with the probes; false: fixed where it starts

  void validate() const;
};

}  // namespace diffmask
