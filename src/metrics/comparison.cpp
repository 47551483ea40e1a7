#include "diffmask/metrics/comparison.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "metrics/site_comparison.hpp"

namespace diffmask {

MethodSettings comparison_settings(const std::string& method) {
  MethodSettings settings{.steps = 20,
                          .beam = 1,
                          .max_passes = 200,
                          .random_passes = 200,
                          .epsilon = 0.05,
                          .training_steps = 200,
                          .batches = {.by_length = true},
                          .example_steps = method.ends_with("_per_sample") ? 100 : 30,
                          .draws = 2};
  if (method == "noise_tolerance") settings.noise_rate = 0.3;
  return settings;
}

ComparedMethod compared_method(const Method& method, const AttributionOptions& options,
                               const MethodSettings& settings,
                               std::shared_ptr<const Dataset> training) {
  require(!method.needs_training || training != nullptr, "training",
          fmt::format("a data set, for method '{}'", method.name), "none");
  return {method.name,
          [method, options, settings, training = std::move(training)](
              const auto& model, const auto& site, uint64_t seed) -> Explain {
            AttributionOptions at_site = options;
            at_site.sites = {site};
            MethodSettings seeded = settings;
            seeded.seed = seed;
            const std::shared_ptr<const Attributor> made =
                method.make(model, at_site, seeded, training);
            return [made](const Batch& batch) { return made->attribute(batch); };
          },
          method.needs_training};
}

std::vector<ComparedMethod> compared_methods(const std::vector<std::string>& names,
                                             const AttributionOptions& options,
                                             const MethodSettings& settings,
                                             const std::shared_ptr<const Dataset>& training) {
  std::vector<ComparedMethod> compared;
  for (const std::string& name : names.empty() ? unlearned_method_names() : names) {
    compared.push_back(compared_method(method(name), options, settings, training));
  }
  return compared;
}

ComparedMethod compared_explainer(const std::string& name,
                                  std::shared_ptr<const FrozenModel> explained,
                                  std::shared_ptr<const DiffMask> method) {
  require(method != nullptr, "method", "an explainer", "a null pointer");
  return {name,
          [explained, method](const auto& model, const std::string& site, uint64_t) -> Explain {
            const Explainer& explainer = method->explainer();
            int64_t depth = explainer.depths() - 1;
            while (depth >= 0 && explainer.masked_site(depth) != site) --depth;
            if (depth < 0 || model != explained) return nullptr;
            return [method, depth](const Batch& batch) {
              const Attribution all = method->attribute(batch);
              Attribution one{{all.sites[static_cast<size_t>(depth)]},
                              all.scores.narrow(2, depth, 1),
                              all.keep.narrow(2, depth, 1),
                              all.mask};
              one.passes = all.mask.size(0);  // it reads one recording
              return one;
            };
          }};
}

std::function<at::Tensor(const Batch& batch)> truth_rows(at::Tensor truth) {
  check_shape("truth", truth, {-1, -1});
  return [truth = std::move(truth)](const Batch& batch) {
    const int64_t positions = batch.mask.size(1);
    require(truth.size(1) >= positions, "truth", fmt::format("of {} positions or more", positions),
            truth.size(1));
    return truth.index_select(0, batch.examples.to(truth.device()))
        .narrow(1, 0, positions)
        .to(batch.mask.device());
  };
}

void ComparisonOptions::validate() const {
  require(!sites.empty(), "sites", "at least one", "none");
  faithfulness.validate();
  require(epsilon > 0, "epsilon", "> 0", epsilon);
  require(!keep_rates.empty(), "keep_rates", "at least one", "none");
  for (const double rate : keep_rates) {
    require(rate > 0 && rate <= 1, "keep_rates", "in (0, 1]", rate);
  }
  require(seeds >= 1, "seeds", ">= 1", seeds);
  require(batch_size >= 1, "batch_size", ">= 1", batch_size);
  require(subsets >= 1, "subsets", ">= 1", subsets);
  require(sensitivity_examples >= 0, "sensitivity_examples", ">= 0", sensitivity_examples);
  require(perturbations >= 1, "perturbations", ">= 1", perturbations);
  require(radius > 0, "radius", "> 0", radius);
}

Comparison compare(const std::shared_ptr<const FrozenModel>& model, const Dataset& data,
                   const std::vector<ComparedMethod>& methods, const ComparisonOptions& options) {
  require(model != nullptr, "model", "a model", "a null pointer");
  options.validate();
  require(!methods.empty(), "methods", "at least one", "none");
  require(data.size() >= 1, "data", "of at least one example", data.size());
  for (const std::string& site : options.sites) model->site(site);
  Comparison comparison;
  for (const std::string& site : options.sites) {
    SiteComparison measured(model, data, site, options);
    for (const ComparedMethod& method : methods) {
      for (int64_t run = 0; run < options.seeds; ++run) {
        comparison.rows.push_back(measured.row(method, options.seed + static_cast<uint64_t>(run)));
        if (options.progress) options.progress(method.name, site);
      }
    }
  }
  return comparison;
}

}  // namespace diffmask
