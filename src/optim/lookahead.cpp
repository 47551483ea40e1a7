#include "diffmask/optim/lookahead.hpp"

#include <ATen/ATen.h>

#include <utility>

#include "diffmask/core/error.hpp"

namespace diffmask {

void LookaheadOptions::validate() const {
  require(k >= 1, "k", ">= 1", k);
  require(alpha > 0 && alpha <= 1, "alpha", "in (0, 1]", alpha);
}

Lookahead::Lookahead(std::vector<at::Tensor> parameters, LookaheadOptions options)
    : options_(options), fast_(std::move(parameters)) {
  options_.validate();
  for (const at::Tensor& parameter : fast_) slow_.push_back(parameter.detach().clone());
}

void Lookahead::step() {
  if (++steps_ % options_.k != 0) return;
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < fast_.size(); ++i) {
    slow_[i].add_(fast_[i] - slow_[i], options_.alpha);
    fast_[i].copy_(slow_[i]);
  }
}

}  // namespace diffmask
