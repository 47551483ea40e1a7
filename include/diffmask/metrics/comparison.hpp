#pragma once
/// \file
/// All methods by all metrics, on one model and data set: each at its own choice of what to keep,
/// and all at equal keep rates, since every measure of faithfulness rises with the share kept.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/attribution/methods.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/metrics/faithfulness.hpp"

namespace diffmask {

class DiffMask;

enum class Better { higher, lower, neither };

struct Metric {
  std::string name;
  Better better = Better::neither;
};

/// Every metric of this library, by its exact name. One "at 20%" of it is as good as it is.
const std::vector<Metric>& known_metrics();
Better better_of(const std::string& name);

/// An attribution of one site, explained for a batch. No function: this site cannot be.
using Explain = std::function<Attribution(const Batch& batch)>;

struct ComparedMethod {
  std::string name;
  std::function<Explain(const std::shared_ptr<const FrozenModel>& model, const std::string& site,
                        uint64_t seed)>
      make;
};

/// Methods of the list (methods.hpp) by their names; none: all. The options' sites are set for
/// each.
std::vector<ComparedMethod> compared_methods(const std::vector<std::string>& names,
                                             const AttributionOptions& options,
                                             const MethodSettings& settings);

/// A trained explainer, which explains this model alone, at the sites that it masks; where several
/// depths mask one, by the last of them.
ComparedMethod compared_explainer(const std::string& name, std::shared_ptr<const FrozenModel> model,
                                  std::shared_ptr<const DiffMask> method);

struct ComparisonOptions {
  std::vector<std::string> sites;               ///< at least one
  FaithfulnessOptions faithfulness = {};        ///< its site is not used
  double epsilon = 0.05;                        ///< > 0, of the constraint D <= epsilon, in nats
  std::vector<double> keep_rates = {0.2, 0.5};  ///< in (0, 1]
  int64_t seeds = 1;        ///< runs, >= 1: of methods that draw, ties and subsets
  uint64_t seed = 0;        ///< the first one
  int64_t batch_size = 32;  ///< examples a batch, >= 1
  int64_t subsets = 8;      ///< of infidelity, an example, >= 1

  /// Sensitivity-max is measured on this many examples of the batch of middling length (0: not),
  /// with so many perturbations, uniform within `radius` times the state's standard deviation.
  int64_t sensitivity_examples = 8, perturbations = 2;
  double radius = 0.1;

  /// A copy of the model with random parameters, for the randomisation test, which explains the
  /// batch of middling length again; none: no such column.
  std::shared_ptr<const FrozenModel> randomised = nullptr;
  /// Where what decides is known, or people marked it, (B, P) bool: D_KL and D_JS of |scores| to it
  /// (known_answer.hpp), AUPRC (ranking.hpp), and of what the method keeps token F1, IOU and IOU F1
  /// (agreement.hpp). Rows without any are left out.
  std::function<at::Tensor(const Batch& batch)> truth = nullptr;
  /// Told after each row; may be empty.
  std::function<void(const std::string& method, const std::string& site)> progress = nullptr;

  void validate() const;
};

/// One method at one site with one seed.
struct ComparisonRow {
  std::string method, site;
  uint64_t seed = 0;
  int64_t subject = 0;  ///< the model and data, which Comparison::add tells apart
  std::vector<std::pair<std::string, double>> values;  ///< means over examples; NaN: has none
  /// By metric, each example's value in the batches' order, NaN where it has none. Metrics of the
  /// whole run, as seconds, are not among them.
  std::map<std::string, std::vector<double>> each;
  std::vector<double> deletion, insertion;  ///< mean curves, shares 0 .. 1
  std::string failure;  ///< why there are no values: an operator without a rule, ...

  /// NaN where there is none of this name.
  double value(const std::string& metric) const;
};

struct Comparison {
  std::vector<ComparisonRow> rows;

  std::vector<std::string> metrics() const;  ///< names of all values, in order
  /// The rows of a method and site as one.
  struct Summary {
    std::string method, site, failure;
    std::vector<double> mean, worst;  ///< one a metric; worst by its direction, else NaN
    /// One a metric: each example's value, the mean over its runs, subject by subject; maybe none.
    std::vector<std::vector<double>> each;
    int64_t runs = 0;
  };
  std::vector<Summary> summaries() const;
  void add(Comparison other);  ///< another model's rows, say
};

/// Whether two methods' means of a metric differ by more than the examples' chance:
///
///     |mean d| > 2 sd(d) / sqrt(n),    d_i the difference of their values of example i
///
/// with n examples, whatever the number of runs. Where examples have no values of their own, or
/// fewer than two have, or a mean is infinite, means that are not equal differ.
bool differ(const Comparison::Summary& a, const Comparison::Summary& b, size_t metric);

/// Explains and measures. A method that throws gets a row with its failure; what the comparison
/// itself is given wrongly is an ArgumentError.
Comparison compare(const std::shared_ptr<const FrozenModel>& model, const Dataset& data,
                   const std::vector<ComparedMethod>& methods, const ComparisonOptions& options);

}  // namespace diffmask
