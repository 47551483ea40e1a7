#pragma once
/// \file
/// diffmask attribute: any of the methods on a model in a file; private.

#include <ATen/ATen.h>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "diffmask/format/safetensors.hpp"
#include "diffmask/mask/fill.hpp"
#include "diffmask/mask/positions.hpp"
#include "diffmask/program/program.hpp"

namespace diffmask::cli {

struct AttributeOptions {
  std::string method, baseline = "zero", out;
  int64_t target = -1;  ///< a class; -1: the predicted one, or an output's only number
  int64_t steps = 50, beam = 5, max_batch = 64, memory_mb = 0;
  uint64_t seed = 0;
  bool features = false;
};

/// What replaces a state: zero, the mean over a batch's own states, another example's state, or a
/// tensor a site from a file.
Fill fill_of(const std::string& baseline, uint64_t seed);

/// A vector's units for a state of two dimensions, an image's cells for one of four, else a
/// sequence's.
Positions positions_of(const at::Tensor& state);

/// The batch at a site with this state. A file's "mask" (B, P) bool counts where it is as large.
Batch batch_at(const Inputs& inputs, const Safetensors& file, const at::Tensor& state,
               const Positions& positions);

/// Explains the model's output on `file`'s inputs at each of the sites, writes a tensor a site to
/// options.out and returns a summary. A file's "mask" (B, P) bool says which positions count, at
/// sites with as many.
nlohmann::json attribute(const std::shared_ptr<const Program>& model, const Inputs& inputs,
                         const Safetensors& file, const std::vector<std::string>& sites,
                         const AttributeOptions& options);

}  // namespace diffmask::cli
