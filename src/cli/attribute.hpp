#pragma once
/// \file
/// diffmask attribute: any of the methods on a model in a file; private.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "diffmask/format/safetensors.hpp"
#include "diffmask/model/program.hpp"

namespace diffmask::cli {

struct AttributeOptions {
  std::string method, baseline = "zero", out;
  int64_t target = -1;  ///< a class; -1: the predicted one, or an output's only number
  int64_t steps = 50, beam = 5, max_batch = 64, memory_mb = 0;
  uint64_t seed = 0;
  bool features = false;
};

std::vector<std::string> method_names();

/// Explains the model's output on `file`'s inputs at each of the sites, writes a tensor a site to
/// options.out and returns a summary. A file's "mask" (B, P) bool says which positions count, at
/// sites with as many.
nlohmann::json attribute(const std::shared_ptr<const Program>& model, const Inputs& inputs,
                         const Safetensors& file, const std::vector<std::string>& sites,
                         const AttributeOptions& options);

}  // namespace diffmask::cli
