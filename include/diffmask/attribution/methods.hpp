#pragma once
/// \file
/// All methods of attribution by name: the one list that programs, comparisons and tests read.
///
///     auto explains = method("integrated_gradients").make(model, {.sites = {"encoder"}});
///     auto trained = method("diffmask_hidden").make(model, {}, {.epsilon = 0.05}, training);
///     Attribution attribution = trained->attribute(batch);
///
/// A method of one's own joins by one call, and is then found, run and compared like the others:
///
///     add_method({.name = "my_method", .build = [](const MethodRequest& request) {
///                   return std::make_unique<MyMethod>(request.model, request.options);
///                 }});
///
/// | name | class |
/// |---|---|
/// | uniform, random, gradient, gradient_x_input | controls (controls.hpp) |
/// | integrated_gradients | IntegratedGradients |
/// | deeplift | DeepLift |
/// | lrp | Lrp, which spreads the rest (LrpOptions::Rest::spread) |
/// | leave_one_out, exact_search, beam_search, random_search | erasure (erasure/erasure.hpp) |
/// | bottleneck, bottleneck_read_out | InformationBottleneck, ReadOutBottleneck |
/// | noise_tolerance | NoiseTolerance |
/// | infomask | InfoMask |
/// | gnn_explainer | GnnExplainer |
/// | diffmask_hidden, diffmask_input | DiffMask with these gatings |
/// | reinforce | DiffMask, hidden, with gates of 0 or 1 that are trained by REINFORCE |
/// | diffmask_per_sample, reinforce_per_sample | the same with free logits for each example |

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/mask/explainer_options.hpp"
#include "diffmask/objective/divergence.hpp"
#include "diffmask/train/callback.hpp"
#include "diffmask/train/recipe.hpp"
#include "diffmask/train/recorded_batches.hpp"

namespace diffmask {

/// What methods are told beside AttributionOptions. Each reads the fields that name it.
struct MethodSettings {
  uint64_t seed = 0;  ///< of everything that is drawn

  int64_t steps = 50;  ///< integrated_gradients: gradients; refined to 8 times as many at most
  int64_t beam = 5;    ///< beam_search: sets kept per size, >= 1
  bool beam_by_gradient = false;  ///< beam_search: tries only the units of least first-order cost
  int64_t max_passes = 100000;    ///< exact_search: rows per example and site; 0: no limit
  int64_t random_passes = 250;    ///< random_search: rows per example and site, >= 1
  Criterion criterion = same_prediction;  ///< exact_search, beam_search: whether a decision holds

  /// Methods that minimise a divergence: bottlenecks, noise_tolerance, infomask, DiffMask,
  /// REINFORCE. Which fits which output: output_kind.hpp.
  Divergence divergence = divergence::classes;
  double epsilon = 0.1;  ///< DiffMask, REINFORCE: the constraint D <= epsilon, > 0

  /// Steps of the methods that are trained on data; 0: the method's default (bottleneck_read_out
  /// and infomask 1000, DiffMask and REINFORCE 1500).
  int64_t training_steps = 0;
  BatchOptions batches = {};  ///< of the same
  /// Steps of the methods that are fitted to each batch; 0: the method's default (bottleneck 100,
  /// noise_tolerance 150, gnn_explainer 400, DiffMask and REINFORCE per sample 100).
  int64_t example_steps = 0;
  double beta = 0.1;         ///< bottlenecks, infomask: price of a nat, > 0
  int64_t draws = 10;        ///< bottleneck, noise_tolerance: draws of the noise per step, >= 1
  double noise_floor = 0.0;  ///< bottlenecks: the least sigma of a channel (BottleneckOptions)
  double noise_rate = 0.1;   ///< noise_tolerance: Adam's step size in log sigma, > 0

  /// DiffMask, REINFORCE. If empty: recipe::log_odds(); per sample with gate_rate 0.2, warm_up 20.
  std::optional<Recipe> recipe = {};
  /// DiffMask, REINFORCE. If empty: ExplainerOptions{}. The method's name decides the masking, the
  /// gate of REINFORCE and the probe of methods per sample. Without sites of its own, it has those
  /// and the positions of the AttributionOptions.
  std::optional<ExplainerOptions> explainer = {};

  std::vector<Callback> callbacks = {};  ///< of training on data, called after each step
};

/// What a method is made from.
struct MethodRequest {
  std::shared_ptr<const FrozenModel> model;
  AttributionOptions options = {};
  MethodSettings settings = {};
  std::shared_ptr<const Dataset> training = nullptr;  ///< given where needs_training
};

struct Method {
  std::string name;  ///< in snake_case
  std::function<std::unique_ptr<Attributor>(const MethodRequest& request)> build = nullptr;

  bool needs_training = false;   ///< learns from training data when it is made
  bool fits_examples = false;    ///< learns anew from each batch that it explains: slow
  bool one_walk = false;         ///< whether several sites cost what one does
  bool whole_output = false;     ///< minimises a divergence of the whole output: reads no target
  bool needs_decision = false;   ///< reads a criterion
  bool needs_gradients = false;  ///< of the model's operators between a site and the output

  /// Made and, where it needs that, trained: ready to explain. ArgumentError names the method that
  /// lacks training data, or a quantized operator without gradients where the method needs them.
  /// The training data are not read later; those of `borrowed` will do.
  std::unique_ptr<Attributor> make(std::shared_ptr<const FrozenModel> model,
                                   AttributionOptions options = {}, MethodSettings settings = {},
                                   std::shared_ptr<const Dataset> training = nullptr) const;
};

/// In the order of reports: controls first, those that were added last. Threads may call this and
/// the functions below at once; each gets copies.
std::vector<Method> methods();
std::vector<std::string> method_names();

/// The names of those that learn nothing, neither from training data nor from examples.
std::vector<std::string> unlearned_method_names();

/// "uniform" and "random", then the others of these names in their order: what is compared, since a
/// figure means nothing without those of scores that say nothing.
std::vector<std::string> with_controls(const std::vector<std::string>& names);

/// The method of this name; ArgumentError, with the nearest names, where there is none.
Method method(const std::string& name);

/// Adds a method for the rest of the program's run. ArgumentError for a name that is empty or
/// taken, or without `build`.
void add_method(Method method);

}  // namespace diffmask
