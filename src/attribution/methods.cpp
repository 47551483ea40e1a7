#include "diffmask/attribution/methods.hpp"

#include <utility>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/attribution/gradient/integrated_gradients.hpp"
#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"

namespace diffmask {
namespace {

using Model = std::shared_ptr<const FrozenModel>;

template <typename Kind>
Method plain(const std::string& name) {
  return {name, [](Model model, AttributionOptions options, const MethodSettings&) {
            return std::make_unique<Kind>(std::move(model), std::move(options));
          }};
}

}  // namespace

const std::vector<Method>& methods() {
  static const std::vector<Method> all = {
      plain<Uniform>("uniform"),
      {"random",
       [](Model model, AttributionOptions options, const MethodSettings& settings) {
         return std::make_unique<Random>(std::move(model), make_generator(settings.seed),
                                         std::move(options));
       }},
      plain<Gradient>("gradient"),
      plain<GradientTimesInput>("gradient_x_input"),
      {"integrated_gradients",
       [](Model model, AttributionOptions options, const MethodSettings& settings) {
         return std::make_unique<IntegratedGradients>(
             std::move(model), std::move(options),
             IntegratedGradientsOptions{.steps = settings.steps, .max_steps = 8 * settings.steps});
       }},
      plain<DeepLift>("deeplift"),
      // As published, biases and softmax lose relevance, on encoders several hundred times as much
      // as there is of it.
      {"lrp",
       [](Model model, AttributionOptions options, const MethodSettings&) {
         return std::make_unique<Lrp>(std::move(model), std::move(options),
                                      LrpOptions{.rest = LrpOptions::Rest::spread});
       },
       /*one_walk=*/true},
      plain<LeaveOneOut>("leave_one_out"),
      {"exact_search",
       [](Model model, AttributionOptions options, const MethodSettings& settings) {
         return std::make_unique<ExactSearch>(
             std::move(model), std::move(options),
             ExactSearchOptions{.max_passes = settings.max_passes});
       }},
      {"beam_search",
       [](Model model, AttributionOptions options, const MethodSettings& settings) {
         return std::make_unique<BeamSearch>(std::move(model), std::move(options),
                                             BeamSearchOptions{.beam = settings.beam});
       }},
      {"random_search",
       [](Model model, AttributionOptions options, const MethodSettings& settings) {
         return std::make_unique<RandomSearch>(
             std::move(model), make_generator(settings.seed), std::move(options),
             RandomSearchOptions{.max_passes = settings.random_passes});
       }},
  };
  return all;
}

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const Method& method : methods()) names.push_back(method.name);
  return names;
}

const Method& method(const std::string& name) {
  for (const Method& method : methods()) {
    if (method.name == name) return method;
  }
  throw ArgumentError("method", "one of diffmask::methods()", with_nearest(name, method_names()));
}

}  // namespace diffmask
