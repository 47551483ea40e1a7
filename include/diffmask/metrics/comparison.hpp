#pragma once
/// \file
/// All methods by all metrics, on one model and data set: each at its own choice of what to keep,
/// and all at equal keep rates, since every measure of faithfulness rises with the share kept.
///
///     const auto chosen = compared_methods({"uniform", "infomask"}, {}, {}, training);
///     const Comparison comparison = compare(model, *data, chosen, {.sites = {"encoder"}});
///     fmt::print("{}", markdown_comparison(comparison));   // report/comparison_report.hpp

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

/// Every metric of this library, by its exact name. A metric "at 20%" has the same direction as the
/// metric itself.
const std::vector<Metric>& known_metrics();
Better better_of(const std::string& name);

/// Explains a batch at one site. An empty function: the method cannot explain this site.
using Explain = std::function<Attribution(const Batch& batch)>;

struct ComparedMethod {
  std::string name;
  std::function<Explain(const std::shared_ptr<const FrozenModel>& model, const std::string& site,
                        uint64_t seed)>
      make;
  /// Whether it learns from data that a model reads. Then it cannot be made for the model that
  /// begins at the site, and has no sensitivity-max.
  bool trained = false;
};

/// Settings of few steps, since a comparison runs each method on every example: of 200 steps of
/// training, or 30 for each batch (100 for a method per sample), which noise_tolerance makes larger
/// ones; with integrated gradients of 20 gradients and searches of 200 rows, beam search greedy.
MethodSettings comparison_settings(const std::string& method);

/// A method of the list (attribution/methods.hpp), or any other, which is made anew for each site
/// and seed. The options' sites and the settings' seed are set for each. ArgumentError where the
/// method needs training data and has none.
ComparedMethod compared_method(const Method& method, const AttributionOptions& options,
                               const MethodSettings& settings = {},
                               std::shared_ptr<const Dataset> training = nullptr);

/// Methods of the list by their names; if empty, those that learn nothing
/// (unlearned_method_names()).
std::vector<ComparedMethod> compared_methods(
    const std::vector<std::string>& names, const AttributionOptions& options,
    const MethodSettings& settings, const std::shared_ptr<const Dataset>& training = nullptr);

/// A trained explainer, which explains `model` alone, at the sites that it masks; where several
/// depths mask one site, by the last of them.
ComparedMethod compared_explainer(const std::string& name, std::shared_ptr<const FrozenModel> model,
                                  std::shared_ptr<const DiffMask> method);

/// What decides, for ComparisonOptions::truth, where row i is known of example i of the data. Of
/// longer rows the first positions count. Shape: truth (N, T) bool -> (B, P), P <= T.
std::function<at::Tensor(const Batch& batch)> truth_rows(at::Tensor truth);

struct ComparisonOptions {
  std::vector<std::string> sites = {};          ///< at least one
  FaithfulnessOptions faithfulness = {};        ///< its site is not used
  double epsilon = 0.05;                        ///< of the constraint D <= epsilon, in nats, > 0
  std::vector<double> keep_rates = {0.2, 0.5};  ///< in (0, 1]
  int64_t seeds = 1;        ///< runs per method, >= 1; a seed decides draws, ties and subsets
  uint64_t seed = 0;        ///< the first run's; the next ones count on from it
  int64_t batch_size = 32;  ///< examples per batch, >= 1
  int64_t subsets = 8;      ///< infidelity: subsets per example, >= 1

  /// Sensitivity-max is measured on this many examples of the batch of middling length (0: it
  /// is not measured), with so many perturbations, uniform within `radius` times the state's
  /// standard deviation.
  int64_t sensitivity_examples = 8, perturbations = 2;
  double radius = 0.1;

  /// A copy of the model with random parameters, for the randomisation test, which explains the
  /// typical batch again. A null pointer: no such column.
  std::shared_ptr<const FrozenModel> randomised = nullptr;
  /// Where what decides is known, or people marked it, (B, P) bool: D_KL and D_JS of |scores| to it
  /// (known_answer.hpp), AUPRC (ranking.hpp), and of what the method keeps token F1, IOU and IOU F1
  /// (agreement.hpp). Rows without any are left out. May be empty.
  std::function<at::Tensor(const Batch& batch)> truth = nullptr;
  /// Called after each row; may be empty.
  std::function<void(const std::string& method, const std::string& site)> progress = nullptr;

  void validate() const;
};

/// One method at one site with one seed.
struct ComparisonRow {
  std::string method, site;
  uint64_t seed = 0;
  int64_t subject = 0;  ///< the model and data, which Comparison::add tells apart
  std::vector<std::pair<std::string, double>> values;  ///< means over examples; NaN: there is none
  /// By metric, each example's value in the batches' order, NaN where it has none. Metrics of the
  /// whole run, such as seconds, are not among them.
  std::map<std::string, std::vector<double>> each;
  std::vector<double> deletion, insertion;  ///< mean curves, shares 0 .. 1
  std::string failure;  ///< why there are no values: an operator without a rule, ...

  /// NaN where there is none of this name.
  double value(const std::string& metric) const;
};

struct Comparison {
  std::vector<ComparisonRow> rows;

  /// The names of all values, in order.
  std::vector<std::string> metrics() const;

  /// The rows of one method at one site, taken together.
  struct Entry {
    std::string method, site, failure;
    std::vector<double> mean;   ///< one per metric, over the rows
    std::vector<double> worst;  ///< one per metric, by its direction; NaN where it has none
    /// One per metric: each example's value, the mean over its runs, subject by subject; maybe
    /// none.
    std::vector<std::vector<double>> each;
    int64_t runs = 0;
  };
  std::vector<Entry> entries() const;

  /// Adds the rows of another comparison, e.g. of another model, as further subjects.
  void add(Comparison other);
};

/// Whether two methods' means of a metric differ by more than the examples' chance:
///
///     |mean d| > 2 sd(d) / sqrt(n),    d_i the difference of their values of example i
///
/// with n examples, whatever the number of runs. Where examples have no values of their own, or
/// fewer than two have, or a mean is infinite, means that are not equal differ.
bool differ(const Comparison::Entry& a, const Comparison::Entry& b, size_t metric);

/// Explains and measures. A method that throws gets a row with its failure; what the comparison
/// itself is given wrongly is an ArgumentError.
Comparison compare(const std::shared_ptr<const FrozenModel>& model, const Dataset& data,
                   const std::vector<ComparedMethod>& methods, const ComparisonOptions& options);

}  // namespace diffmask
