#pragma once
/// \file
/// diffmask compare: the methods by all metrics on a model in a file; private.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/attribute.hpp"
#include "cli/model_file.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/program/program.hpp"

namespace diffmask::cli {

struct CompareOptions {
  std::vector<std::string> methods;     ///< names; if empty, those that learn nothing
  std::vector<std::string> explainers;  ///< explainer files
  std::string baseline = "mean", markdown, json, html;
  std::vector<double> keep_rates = {0.2, 0.5};
  double epsilon = 0.05;
  /// Smaller than the methods' own defaults: a comparison runs each method on every example.
  int64_t steps = 20, beam = 1, budget = 200;
  int64_t seeds = 1, batch_size = 32, max_batch = 64;
  uint64_t seed = 0;
  OutputOptions outputs;
  LearningOptions learning;
};

void add_compare(CLI::App& command, ModelOptions& model, CompareOptions& options);

/// Uniform and random scores are always among the methods. Methods that need training data learn
/// from the same inputs.
Comparison compare(const std::shared_ptr<const Program>& model, const Inputs& inputs,
                   const at::Tensor& mask, std::vector<std::string> sites,
                   const CompareOptions& options);

/// Writes a comparison in the forms whose file names are not empty.
void write_comparison(const Comparison& comparison, const std::string& title,
                      const CompareOptions& options);

/// Reads the files, compares, writes what the options name, and prints the tables.
int run_compare(const ModelOptions& model, const CompareOptions& options);

}  // namespace diffmask::cli
