#include "diffmask/attribution/learned/gnn_explainer.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/mask/masking.hpp"
#include "diffmask/optim/optimiser.hpp"

namespace diffmask {
namespace {

// H(sigmoid(m)) = softplus(m) - m sigmoid(m), which stays finite.
at::Tensor entropy_of(const at::Tensor& logits) {
  return at::softplus(logits) - logits * logits.sigmoid();
}

// Mean over the dimensions behind the first, an entry per row.
at::Tensor row_mean(const at::Tensor& values, const at::Tensor& weights) {
  return (values * weights).sum(1) / weights.sum(1);
}

}  // namespace

void GnnExplainerOptions::validate() const {
  require(steps >= 1, "steps", ">= 1", steps);
  require(std::isfinite(rate) && rate > 0, "rate", "> 0", rate);
  require(std::isfinite(initial), "initial", "finite", initial);
  require(std::isfinite(feature_initial), "feature_initial", "finite", feature_initial);
  const std::pair<const char*, double> weights[] = {{"size", size},
                                                    {"entropy", entropy},
                                                    {"feature_size", feature_size},
                                                    {"feature_entropy", feature_entropy}};
  for (const auto& [name, weight] : weights) {
    require(std::isfinite(weight) && weight >= 0, name, ">= 0", weight);
  }
}

GnnExplainer::GnnExplainer(std::shared_ptr<const FrozenModel> model, AttributionOptions options,
                           GnnExplainerOptions settings)
    : SiteMethod(model, std::move(options)), settings_(std::move(settings)) {
  settings_.validate();
  if (settings_.features.empty()) return;
  model->site(settings_.features);  // throws where there is none
  for (const std::string& site : this->options().sites) {
    require(site != settings_.features, "features",
            "another site than those whose positions are masked", site);
  }
}

GnnExplainer::Masks GnnExplainer::fit(const Original& original, int64_t depth) const {
  const Batch& batch = original.batch;
  const Positions& positions = original.positions(depth);
  const at::Tensor &state = original.state(depth), fill = original.fill(depth);
  const Target target = target::log_probability(original.options.target);
  const at::Tensor logits = at::full(batch.mask.sizes(), settings_.initial, state.options());
  std::vector<at::Tensor> leaves = {logits.requires_grad_(true)};
  at::Tensor features, feature_fill;
  if (!settings_.features.empty()) {
    features = original.model.record(batch.inputs, {settings_.features}).state(settings_.features);
    feature_fill = fill::value(original.options.fill, settings_.features, features);
    leaves.push_back(
        at::full({batch.size(), features.size(-1)}, settings_.feature_initial, features.options())
            .requires_grad_(true));
  }
  // The sum over the rows of a chunk, each of which has a mask, and so a minimum, of its own.
  const auto loss = [&](const Passes::Chunk& chunk) {
    const auto rows = [&](const at::Tensor& t) { return t.slice(0, chunk.begin, chunk.end); };
    const at::Tensor m = rows(tied(leaves[0], batch)), z = m.sigmoid();
    const at::Tensor inside = rows(batch.mask).to(z.scalar_type());
    std::vector<Replacement> masked_states = {
        {original.site(depth), masked(rows(state), positions.expand(z, rows(state)), rows(fill))}};
    at::Tensor cost =
        settings_.size * (z * inside).sum(1) + settings_.entropy * row_mean(entropy_of(m), inside);
    if (features.defined()) {
      const at::Tensor w = rows(leaves[1]), u = w.sigmoid();
      std::vector<int64_t> shape(static_cast<size_t>(features.dim()), 1);
      shape.front() = u.size(0);
      shape.back() = u.size(1);
      masked_states.push_back(
          {settings_.features, masked(rows(features), u.view(shape), rows(feature_fill))});
      cost = cost + settings_.feature_size * u.mean(1) +
             settings_.feature_entropy * entropy_of(w).mean(1);
    }
    const at::Tensor output = original.model.resume(chunk.recording, masked_states);
    return (cost - target::value(target, output, chunk.recording.output())).sum();
  };

  Descent descent(optimiser::adam(), {{"masks", leaves, settings_.rate}});
  at::AutoGradMode with_gradients(true);
  original.passes.expect(settings_.steps * batch.size());
  for (int64_t step = 0; step < settings_.steps; ++step) {
    std::vector<at::Tensor> sums(leaves.size());
    original.passes.each({original.site(depth)}, original.examples(),
                         [&](const Passes::Chunk& chunk) {
                           const auto gradients = torch::autograd::grad({loss(chunk)}, leaves);
                           for (size_t i = 0; i < leaves.size(); ++i) {
                             sums[i] = sums[i].defined() ? sums[i] + gradients[i] : gradients[i];
                           }
                         });
    descent.step(sums);
  }
  at::NoGradGuard no_grad;
  return {tied(leaves[0], batch).sigmoid(),
          features.defined() ? leaves[1].detach().sigmoid() : at::Tensor()};
}

SiteMethod::Column GnnExplainer::explain(const Original& original, int64_t depth) const {
  const at::Tensor scores = fit(original, depth).positions;
  return {scores, scores.gt(0.5)};
}

at::Tensor GnnExplainer::feature_masks(const Batch& batch) const {
  require(!settings_.features.empty(), "features", "a site", "none");
  std::vector<at::Tensor> masks;
  with_original(batch, [&](const Original& original) {
    for (size_t depth = 0; depth < options().sites.size(); ++depth) {
      masks.push_back(fit(original, static_cast<int64_t>(depth)).features);
    }
  });
  return at::stack(masks, 2);
}

}  // namespace diffmask
