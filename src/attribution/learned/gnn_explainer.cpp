#include "diffmask/attribution/learned/gnn_explainer.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/optim/adam.h>

#include <cmath>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/mask/masking.hpp"

namespace diffmask {
namespace {

// H(sigmoid(m)) = softplus(m) - m sigmoid(m), which stays finite.
at::Tensor entropy_of(const at::Tensor& logits) {
  return at::softplus(logits) - logits * logits.sigmoid();
}

// Mean over the dimensions behind the first, an entry a row.
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
                           GnnExplainerOptions own)
    : SiteMethod(model, std::move(options)), own_(std::move(own)) {
  own_.validate();
  if (own_.features.empty()) return;
  model->site(own_.features);  // throws where there is none
  for (const std::string& site : this->options().sites) {
    require(site != own_.features, "features", "another site than those whose positions are masked",
            site);
  }
}

GnnExplainer::Masks GnnExplainer::fit(const Original& original, int64_t depth) const {
  const Batch& batch = original.batch;
  const Positions& positions = original.positions(depth);
  const at::Tensor &state = original.state(depth), fill = original.fill(depth);
  const Target target = target::log_probability(original.options.target);
  const at::Tensor logits = at::full(batch.mask.sizes(), own_.initial, state.options());
  std::vector<at::Tensor> leaves = {logits.requires_grad_(true)};
  at::Tensor features, feature_fill;
  if (!own_.features.empty()) {
    features = original.model.record(batch.inputs, {own_.features}).state(own_.features);
    feature_fill = fill::value(original.options.fill, own_.features, features);
    leaves.push_back(
        at::full({batch.size(), features.size(-1)}, own_.feature_initial, features.options())
            .requires_grad_(true));
  }
  const auto tied = [&](const at::Tensor& m) {
    return batch.groups.defined() ? spread_groups(group_mean(m, batch.groups), batch.groups) : m;
  };
  // The sum over the rows of a chunk, each of which has a mask, and so a minimum, of its own.
  const auto loss = [&](const Passes::Chunk& chunk) {
    const auto rows = [&](const at::Tensor& t) { return t.slice(0, chunk.begin, chunk.end); };
    const at::Tensor m = rows(tied(leaves[0])), z = m.sigmoid();
    const at::Tensor inside = rows(batch.mask).to(z.scalar_type());
    std::vector<Replacement> masked_states = {
        {original.site(depth), masked(rows(state), positions.expand(z, rows(state)), rows(fill))}};
    at::Tensor cost =
        own_.size * (z * inside).sum(1) + own_.entropy * row_mean(entropy_of(m), inside);
    if (features.defined()) {
      const at::Tensor w = rows(leaves[1]), u = w.sigmoid();
      std::vector<int64_t> shape(static_cast<size_t>(features.dim()), 1);
      shape.front() = u.size(0);
      shape.back() = u.size(1);
      masked_states.push_back(
          {own_.features, masked(rows(features), u.view(shape), rows(feature_fill))});
      cost = cost + own_.feature_size * u.mean(1) + own_.feature_entropy * entropy_of(w).mean(1);
    }
    const at::Tensor output = original.model.resume(chunk.recording, masked_states);
    return (cost - target::value(target, output, chunk.recording.output())).sum();
  };

  torch::optim::Adam adam(leaves, torch::optim::AdamOptions(own_.rate));
  at::AutoGradMode with_gradients(true);
  original.passes.expect(own_.steps * batch.size());
  for (int64_t step = 0; step < own_.steps; ++step) {
    adam.zero_grad();
    original.passes.each({original.site(depth)}, original.examples(),
                         [&](const Passes::Chunk& chunk) {
                           const auto gradients = torch::autograd::grad({loss(chunk)}, leaves);
                           for (size_t i = 0; i < leaves.size(); ++i) {
                             at::Tensor& sum = leaves[i].mutable_grad();
                             sum = sum.defined() ? sum + gradients[i] : gradients[i];
                           }
                         });
    adam.step();
  }
  at::NoGradGuard no_grad;
  return {tied(leaves[0]).sigmoid(),
          features.defined() ? leaves[1].detach().sigmoid() : at::Tensor()};
}

SiteMethod::Column GnnExplainer::explain(const Original& original, int64_t depth) const {
  const at::Tensor scores = fit(original, depth).positions;
  return {scores, scores.gt(0.5)};
}

at::Tensor GnnExplainer::feature_masks(const Batch& batch) const {
  require(!own_.features.empty(), "features", "a site", "none");
  std::vector<at::Tensor> masks;
  with_original(batch, [&](const Original& original) {
    for (size_t depth = 0; depth < options().sites.size(); ++depth) {
      masks.push_back(fit(original, static_cast<int64_t>(depth)).features);
    }
  });
  return at::stack(masks, 2);
}

}  // namespace diffmask
