#pragma once
/// \file
/// The comparison at one site: its batches are recorded once, and all methods are measured by them;
/// private.

#include <ATen/core/Generator.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/data/dataset.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/metrics/faithfulness.hpp"

namespace diffmask {

/// Each example's values by metric, collected batch by batch.
class ExampleValues;

class SiteComparison {
 public:
  /// `options` have to outlive it.
  SiteComparison(std::shared_ptr<const FrozenModel> model, const Dataset& data, std::string site,
                 const ComparisonOptions& options);

  /// One method with one seed. What it throws becomes the row's failure.
  ComparisonRow row(const ComparedMethod& method, uint64_t seed);

 private:
  void measure(const Explain& explain, const Explain& randomised, ComparisonRow& row);
  void measure_sensitivity(const ComparedMethod& method, ComparisonRow& row) const;
  void measure_own_choice(FaithfulnessMeter& meter, const at::Tensor& keep,
                          ExampleValues& values) const;
  void measure_equal_rates(FaithfulnessMeter& meter, const at::Tensor& scores,
                           const at::Generator& ties, ExampleValues& values) const;
  void measure_truth(const Batch& batch, const at::Tensor& scores, const at::Tensor& keep,
                     ExampleValues& values) const;
  void measure_agreement(const ComparisonRow& row, const std::vector<at::Tensor>& scores,
                         ExampleValues& values);

  std::shared_ptr<const FrozenModel> model_;
  std::string site_;
  const ComparisonOptions& options_;
  std::vector<std::unique_ptr<FaithfulnessMeter>> meters_;  // one per batch
  FaithfulnessMeter* typical_ = nullptr;  // for tests that explain again, at the method's cost
  std::map<std::string, std::vector<at::Tensor>> first_scores_;  // by method, of the first seed
};

}  // namespace diffmask
