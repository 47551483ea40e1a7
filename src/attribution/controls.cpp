#include "diffmask/attribution/controls.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <string>
#include <vector>

#include "attribution/gradient/gradients.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

// Over all examples, as the engine cuts them. Shape: the state's.
at::Tensor gradient_at(const SiteMethod::Original& original, int64_t depth) {
  const std::string& site = original.site(depth);
  std::vector<at::Tensor> gradients;
  original.passes.each({site}, original.examples(), [&](const Passes::Chunk& chunk) {
    const Replacement state{site, chunk.recording.state(site)};
    gradients.push_back(target_gradients(original, chunk.recording, {state})[0]);
  });
  return at::cat(gradients);
}

}  // namespace

SiteMethod::Column Uniform::explain(const Original& original, int64_t depth) const {
  const at::Tensor ones = at::ones(original.batch.mask.sizes(), original.state(depth).options());
  return {ones, ones.gt(0)};
}

Random::Random(std::shared_ptr<const FrozenModel> model, at::Generator generator,
               AttributionOptions options)
    : SiteMethod(std::move(model), std::move(options)), generator_(std::move(generator)) {
  require(generator_.defined(), "generator", "given", "none");
}

SiteMethod::Column Random::explain(const Original& original, int64_t depth) const {
  const at::Tensor scores =
      drawn_uniform(original.batch.mask.sizes(), generator_, original.state(depth).options());
  return {scores, scores.gt(0.5)};
}

SiteMethod::Column Gradient::explain(const Original& original, int64_t depth) const {
  const at::Tensor gradient = gradient_at(original, depth);
  const at::Tensor scores = original.positions(depth).features(gradient).square().sum(2).sqrt();
  return {scores, scores.gt(0), gradient};
}

SiteMethod::Column GradientTimesInput::explain(const Original& original, int64_t depth) const {
  const at::Tensor gradient = gradient_at(original, depth);
  return summed(original, depth, gradient * (original.state(depth) - original.fill(depth)));
}

SiteMethod::Column AttentionWeights::explain(const Original& original, int64_t depth) const {
  const at::Tensor& weights = original.state(depth);
  const at::Tensor& mask = original.batch.mask;
  const int64_t positions = mask.size(1);
  require(weights.dim() == 4 && weights.size(2) == positions && weights.size(3) == positions,
          fmt::format("state at '{}'", original.site(depth)),
          fmt::format("attention's weights, of shape (B, heads, {0}, {0})", positions),
          shape_string(weights.sizes()));
  const at::Tensor query = mask.to(weights.scalar_type()).unsqueeze(1).unsqueeze(3);
  const at::Tensor mean = (weights * query).sum(2) / query.sum(2);
  const at::Tensor scores = mean.amax({1});
  return {scores, scores.gt(0)};
}

}  // namespace diffmask
