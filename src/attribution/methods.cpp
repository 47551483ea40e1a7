#include "diffmask/attribution/methods.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "attribution/learned_methods.hpp"
#include "attribution/propagation/not_finite.hpp"
#include "diffmask/attribution/controls.hpp"
#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/attribution/gradient/integrated_gradients.hpp"
#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/program/program.hpp"
#include "program/program_graph.hpp"

namespace diffmask {
namespace {

template <typename Kind>
Method plain(const std::string& name, bool needs_gradients) {
  return {.name = name,
          .build =
              [](const MethodRequest& request) {
                return std::make_unique<Kind>(request.model, request.options);
              },
          .needs_gradients = needs_gradients};
}

std::vector<Method> unlearned_methods() {
  return {
      plain<Uniform>("uniform", false),
      {.name = "random",
       .build =
           [](const MethodRequest& request) {
             return std::make_unique<Random>(request.model, make_generator(request.settings.seed),
                                             request.options);
           }},
      plain<Gradient>("gradient", true),
      plain<GradientTimesInput>("gradient_x_input", true),
      {.name = "integrated_gradients",
       .build =
           [](const MethodRequest& request) {
             const int64_t steps = request.settings.steps;
             return std::make_unique<IntegratedGradients>(
                 request.model, request.options,
                 IntegratedGradientsOptions{.steps = steps, .max_steps = 8 * steps});
           },
       .needs_gradients = true},
      plain<DeepLift>("deeplift", true),
      // As published, biases and softmax lose relevance, on encoders several hundred times as much
      // as there is of it.
      {.name = "lrp",
       .build =
           [](const MethodRequest& request) {
             return std::make_unique<Lrp>(request.model, request.options,
                                          LrpOptions{.rest = LrpOptions::Rest::spread});
           },
       .one_walk = true},
      plain<LeaveOneOut>("leave_one_out", false),
      {.name = "exact_search",
       .build =
           [](const MethodRequest& request) {
             return std::make_unique<ExactSearch>(
                 request.model, request.options,
                 ExactSearchOptions{.criterion = request.settings.criterion,
                                    .max_passes = request.settings.max_passes});
           },
       .needs_decision = true},
      {.name = "beam_search",
       .build =
           [](const MethodRequest& request) {
             using Rank = BeamSearchOptions::Rank;
             const MethodSettings& settings = request.settings;
             return std::make_unique<BeamSearch>(
                 request.model, request.options,
                 BeamSearchOptions{
                     .criterion = settings.criterion,
                     .rank = settings.beam_by_gradient ? Rank::gradient : Rank::erasure,
                     .beam = settings.beam});
           },
       .needs_decision = true},
      {.name = "random_search",
       .build =
           [](const MethodRequest& request) {
             return std::make_unique<RandomSearch>(
                 request.model, make_generator(request.settings.seed), request.options,
                 RandomSearchOptions{.max_passes = request.settings.random_passes});
           }},
  };
}

// The first operator between a site and the output that autograd silently stops at; empty: none.
std::string operator_without_gradients(const Program& program, const std::string& site) {
  const ProgramGraph& graph = program.graph();
  const auto any = [](const std::vector<Slot>& slots, const std::vector<bool>& marks) {
    return std::any_of(slots.begin(), slots.end(),
                       [&](Slot slot) { return marks[static_cast<size_t>(slot)]; });
  };
  std::vector<bool> below(graph.known.size(), false), above(graph.known.size(), false);
  below[static_cast<size_t>(graph.sites.at(static_cast<size_t>(program.site(site).depth)).slot)] =
      true;
  above[static_cast<size_t>(graph.output)] = true;
  for (const Step& step : graph.steps) {
    if (!any(step.inputs, below)) continue;
    for (const Slot slot : step.outputs) below[static_cast<size_t>(slot)] = true;
  }
  std::string first;
  for (auto step = graph.steps.rbegin(); step != graph.steps.rend(); ++step) {
    if (!any(step->outputs, above)) continue;
    for (const Slot slot : step->inputs) above[static_cast<size_t>(slot)] = true;
    const bool quantized = step->name.find("quantized::") != step->name.npos ||
                           step->name.find("aten::quantize_per_") != step->name.npos;
    if (quantized && any(step->inputs, below)) first = step->name;
  }
  return first;
}

// A method whose numbers are finite; errors say where others come from.
class Finite : public Attributor {
 public:
  Finite(std::unique_ptr<Attributor> method, std::string name,
         std::shared_ptr<const FrozenModel> model, AttributionOptions options)
      : method_(std::move(method)),
        name_(std::move(name)),
        model_(std::move(model)),
        options_(std::move(options)) {}

  Attribution attribute(const Batch& batch) const override {
    try {
      return finite(method_->attribute(batch), options_.nan_to_zero);
    } catch (const NotFinite& error) {
      throw error.because(name_, not_finite_because(*model_, options_, batch));
    }
  }

 private:
  std::unique_ptr<Attributor> method_;
  std::string name_;
  std::shared_ptr<const FrozenModel> model_;
  AttributionOptions options_;
};

// The one list, and its lock.
struct Registry {
  std::mutex mutex;
  std::vector<Method> methods = unlearned_methods();

  Registry() {
    std::vector<Method> learned = learned_methods();
    methods.insert(methods.end(), std::make_move_iterator(learned.begin()),
                   std::make_move_iterator(learned.end()));
  }
};

Registry& registry() {
  static Registry all;
  return all;
}

}  // namespace

std::unique_ptr<Attributor> Method::make(std::shared_ptr<const FrozenModel> model,
                                         AttributionOptions options, MethodSettings settings,
                                         std::shared_ptr<const Dataset> training) const {
  require(model != nullptr, "model", "a model", "a null pointer");
  require(build != nullptr, "build", fmt::format("a function, for method '{}'", name), "none");
  require(!needs_training || training != nullptr, "training",
          fmt::format("a data set, for method '{}'", name), "none");
  require(settings.training_steps >= 0, "training_steps", ">= 0 (0: the default)",
          settings.training_steps);
  require(settings.example_steps >= 0, "example_steps", ">= 0 (0: the default)",
          settings.example_steps);
  const auto* program = dynamic_cast<const Program*>(model.get());
  if (program && (needs_gradients || (settings.beam_by_gradient && name == "beam_search"))) {
    for (const std::string& site : options.resolved(program).sites) {
      const std::string blocked = operator_without_gradients(*program, site);
      require(blocked.empty(), "method",
              fmt::format("one that needs no gradients at '{}', as between it and the output they "
                          "end at {}",
                          site, blocked),
              fmt::format("'{}'", name));
    }
  }
  auto method = build({model, options, std::move(settings), std::move(training)});
  return std::make_unique<Finite>(std::move(method), name, std::move(model), std::move(options));
}

std::vector<Method> methods() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  return all.methods;
}

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const Method& each : methods()) names.push_back(each.name);
  return names;
}

std::vector<std::string> unlearned_method_names() {
  std::vector<std::string> names;
  for (const Method& each : methods()) {
    if (!each.needs_training && !each.fits_examples) names.push_back(each.name);
  }
  return names;
}

std::vector<std::string> with_controls(const std::vector<std::string>& names) {
  std::vector<std::string> all = {"uniform", "random"};
  for (const std::string& name : names) {
    if (std::find(all.begin(), all.end(), name) == all.end()) all.push_back(name);
  }
  return all;
}

Method method(const std::string& name) {
  for (Method& each : methods()) {
    if (each.name == name) return std::move(each);
  }
  throw ArgumentError("method", "one of diffmask::methods()", with_nearest(name, method_names()));
}

void add_method(Method method) {
  require(!method.name.empty(), "method.name", "a name", "an empty one");
  require(method.build != nullptr, "method.build", "a function", "none");
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  for (const Method& each : all.methods) {
    require(each.name != method.name, "method.name", "one that no other method has",
            fmt::format("'{}'", method.name));
  }
  all.methods.push_back(std::move(method));
}

}  // namespace diffmask
