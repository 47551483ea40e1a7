#pragma once
/// \file
/// diffmask compare: the methods by all metrics on a model in a file; private.

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "diffmask/format/safetensors.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/program/program.hpp"

namespace diffmask::cli {

struct CompareOptions {
  std::vector<std::string> methods, explainers;  ///< names; explainer files
  std::string baseline = "mean", markdown, json, html;
  std::vector<double> keep_rates = {0.2, 0.5};
  double epsilon = 0.05;
  /// Of searches, in place of their own: a comparison runs each on every example.
  int64_t steps = 20, beam = 1, budget = 200;
  int64_t seeds = 1, batch_size = 32, max_batch = 64;
  uint64_t seed = 0;
};

/// Uniform and random scores are always among the methods. Writes what the options name.
Comparison compare(const std::shared_ptr<const Program>& model, const Inputs& inputs,
                   const Safetensors& file, const std::vector<std::string>& sites,
                   const CompareOptions& options);

/// Writes a comparison in the forms whose file names are not empty.
void write_comparison(const Comparison& comparison, const std::string& title,
                      const CompareOptions& options);

}  // namespace diffmask::cli
