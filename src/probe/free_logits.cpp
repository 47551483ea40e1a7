#include "diffmask/probe/free_logits.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

void FreeLogitsOptions::validate() const {
  require(std::isfinite(limit) && limit > 0, "limit", "> 0", limit);
  require(std::abs(initial) < limit, "initial", fmt::format("within +-{}", limit), initial);
}

FreeLogits::FreeLogits(int64_t examples, int64_t positions, FreeLogitsOptions options)
    : options_(options) {
  options_.validate();
  require(examples >= 1, "examples", ">= 1", examples);
  require(positions >= 1, "positions", ">= 1", positions);
  logits_ = register_parameter("logits", at::full({examples, positions}, options_.initial));
}

at::Tensor FreeLogits::logits(const at::Tensor& features, const at::Tensor& examples,
                              const Dropout&) {
  require(examples.defined(), "batch.examples", "given, since the logits are per example", "none");
  require(examples.min().item<int64_t>() >= 0 && examples.max().item<int64_t>() < logits_.size(0),
          "batch.examples", fmt::format("in 0..{}, the examples fitted", logits_.size(0) - 1),
          fmt::format("{}..{}", examples.min().item<int64_t>(), examples.max().item<int64_t>()));
  require(features.size(1) <= logits_.size(1), "positions",
          fmt::format("at most {}, as fitted", logits_.size(1)), features.size(1));
  return logits_.index_select(0, examples).narrow(1, 0, features.size(1));
}

void FreeLogits::project() {
  at::NoGradGuard no_grad;
  logits_.clamp_(-options_.limit, options_.limit);
}

}  // namespace diffmask
