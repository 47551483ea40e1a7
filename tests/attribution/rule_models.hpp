#pragma once
/// \file
/// Small models to walk backward through, and those of tests/reference/rules.py.

#include <ATen/TracerMode.h>
#include <torch/torch.h>

#include <cstdlib>

#include "diffmask/core/random.hpp"
#include "diffmask/data/batch.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/model/staged.hpp"
#include "diffmask/program/program.hpp"

namespace diffmask {

/// The same weights in each pass, also where a forward that is traced asks for them.
inline at::Tensor random_tensor(at::IntArrayRef sizes, uint64_t seed) {
  const at::tracer::impl::NoTracerDispatchMode not_traced;
  return at::randn(sizes, make_generator(seed), at::TensorOptions(at::kDouble));
}

/// f as a native model with its input as the site "x".
inline std::shared_ptr<const FrozenModel> model_of(
    const std::function<at::Tensor(const at::Tensor&)>& f) {
  auto module = std::make_shared<torch::nn::IdentityImpl>();
  module->eval();
  return std::make_shared<StagedModel>(
      module, std::vector<Stage>{{"x", [](const at::Tensor& x, const Inputs&) { return x; }},
                                 {"f", [f](const at::Tensor& x, const Inputs&) { return f(x); }}});
}

inline Batch numbered_batch(const at::Tensor& x, int64_t positions) {
  return {{x}, at::ones({x.size(0), positions}, at::kBool), at::arange(x.size(0)), {}};
}

inline Batch numbered_batch(const at::Tensor& x) { return numbered_batch(x, x.size(1)); }

/// max |a - b| / max |b|
inline double relative_error(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

/// The folder that DIFFMASK_RULES names: a file in it, "" where there is none.
inline std::string reference_file(const std::string& name) {
  const char* folder = std::getenv("DIFFMASK_RULES");
  return folder ? std::string(folder) + "/" + name : "";
}

#define SKIP_WITHOUT_REFERENCE()  \
  if (reference_file("").empty()) \
  GTEST_SKIP() << "DIFFMASK_RULES is no folder that tests/reference/rules.py made"

}  // namespace diffmask
