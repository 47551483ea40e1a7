#include "diffmask/attribution/propagation/deeplift.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "attribution/propagation/deeplift_rules.hpp"
#include "attribution/propagation/deeplift_walk.hpp"
#include "attribution/propagation/program_method.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/quadrature.hpp"

namespace diffmask {
namespace {

// The target's own multipliers: its mean gradient between the two outputs, exact where it is
// linear.
at::Tensor target_multipliers(const Target& target, const at::Tensor& output,
                              const at::Tensor& reference) {
  const auto [nodes, weights] = gauss_legendre(8);
  at::Tensor sum = at::zeros_like(output);
  for (size_t i = 0; i < nodes.size(); ++i) {
    const at::Tensor between = at::lerp(reference, output, nodes[i]);
    sum = sum + weights[i] * target_gradient(target, between, output);
  }
  return sum;
}

// Where a target's difference is a - b; 0 where both are the same infinity.
at::Tensor difference_of(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).masked_fill(a == b, 0);
}

struct Scores {
  at::Tensor features, gap;  // undefined: the output does not depend on the site
};

Scores scores_of(const DeepLiftWalk& walk, const ProgramPass& pass, size_t depth,
                 const Target& target, const at::Tensor& delta,
                 DeepLiftOptions::Activation activation) {
  const at::Tensor output = pass.output(), there = pass.arranged(walk.output());
  const at::Tensor seed = target_multipliers(target, output, there).reshape_as(walk.output());
  const at::Tensor change =
      difference_of(target::value(target, output, output), target::value(target, there, output));
  const auto scores = [&](Products products) -> Scores {
    const at::Tensor m = walk.multipliers(seed, activation, products);
    if (!m.defined()) return {};
    const at::Tensor features = m * delta;
    return {features, change - pass.example_sums(depth, features)};
  };
  const Scores usual = scores(Products::symmetric);
  if (!usual.features.defined() || !walk.has_product()) return usual;
  // The symmetric rule's scores may be so large, and cancel so nearly, that rounding is all that is
  // left of their sum.
  const double digits = output.scalar_type() == at::kDouble ? 1e-16 : 1e-7;
  const at::Tensor rounding = digits * pass.example_sums(depth, usual.features.abs());
  const at::Tensor size = change.abs();
  const at::Tensor missed =
      (usual.gap.abs() > 1e-3 * size).logical_or(rounding > 1e-2 * size).logical_and(size > 0);
  if (!missed.any().item<bool>()) return usual;
  const Scores bounded = scores(Products::bounded);
  const at::Tensor better = missed.logical_and(bounded.gap.abs() <= usual.gap.abs());
  return {pass.choose(depth, better, bounded.features, usual.features),
          at::where(better, bounded.gap, usual.gap)};
}

}  // namespace

DeepLift::DeepLift(std::shared_ptr<const FrozenModel> model, AttributionOptions options,
                   DeepLiftOptions deeplift)
    : model_(std::move(model)),
      options_(options.resolved(model_.get())),
      deeplift_(std::move(deeplift)) {
  if (deeplift_.references.empty()) deeplift_.references = {options_.fill};
  for (const Fill& fill : deeplift_.references) {
    require(fill != nullptr, "references", "functions", "none");
  }
  for (const DeepLiftEntry& entry : deeplift_.rules) {
    require(!entry.operators.empty(), "operators", "named by each of the rules", "none");
    require(entry.rule != nullptr, fmt::format("the rule of '{}'", entry.operators), "a function",
            "none");
  }
}

// What the fills give for a whole batch, cut to the part that is explained.
class DeepLift::References {
 public:
  References(const DeepLift& method, const Batch& batch) : method_(method), batch_(batch) {}

  // Of each fill, at a site whose state over the part is known. Shape: the state's.
  std::vector<at::Tensor> of(size_t depth, const at::Tensor& state, int64_t begin) {
    const Positions& positions = method_.options_.positions_of(depth);
    const int64_t size = positions.examples(state);
    if (size == batch_.size()) return draw(depth, state);
    if (drawn_.empty()) {
      const auto& sites = method_.options_.sites;
      const Recording whole = method_.model_->record(batch_.inputs, sites);
      for (size_t i = 0; i < sites.size(); ++i) drawn_.push_back(draw(i, whole.state(sites[i])));
    }
    std::vector<at::Tensor> part;
    for (const at::Tensor& reference : drawn_[depth]) {
      part.push_back(reference.narrow(0, begin, size).to(state.scalar_type()));
    }
    return part;
  }

 private:
  std::vector<at::Tensor> draw(size_t depth, const at::Tensor& state) const {
    std::vector<at::Tensor> references;
    const Positions& positions = method_.options_.positions_of(depth);
    for (const Fill& fill : method_.deeplift_.references) {
      const at::Tensor filled =
          fill::value(fill, method_.options_.sites[depth], positions.arrange(state));
      references.push_back(positions.restore(filled).contiguous());
    }
    return references;
  }

  const DeepLift& method_;
  const Batch& batch_;
  std::vector<std::vector<at::Tensor>> drawn_;  // a site's, of each fill
};

Attribution DeepLift::attribute(const Batch& given) const {
  given.validate();
  const at::NoGradGuard no_grad;
  const Batch batch = given.to(model_->device());
  References references(*this, batch);
  return in_parts(options_, batch, [&](const Batch& part, int64_t begin) {
    return explain(part, begin, references);
  });
}

Attribution DeepLift::explain(const Batch& batch, int64_t begin, References& references) const {
  const ProgramPass pass(*model_, options_, batch, /*all_sites_are_roots=*/false,
                         Explained::differences);
  const at::Tensor output = pass.output();
  const at::Tensor value = target::value(options_.target, output, output);
  const auto count = static_cast<int64_t>(deeplift_.references.size());
  const DeepLiftTable table(deeplift_.rules);
  std::vector<at::Tensor> features, gaps;
  int64_t passes = batch.size();
  for (size_t depth = 0; depth < options_.sites.size(); ++depth) {
    at::Tensor sum, gap = at::zeros_like(value);
    const at::Tensor state = pass.state(depth);
    for (const at::Tensor& reference : references.of(depth, state, begin)) {
      const DeepLiftWalk walk(pass, depth, options_.sites[depth], reference, table);
      if (!walk.output().defined()) break;
      const Scores scores =
          scores_of(walk, pass, depth, options_.target, state - reference, deeplift_.activation);
      if (!scores.features.defined()) break;
      sum = sum.defined() ? sum + scores.features : scores.features;
      gap += scores.gap;
      passes += batch.size();
    }
    features.push_back(sum.defined() ? sum / count : sum);
    gaps.push_back(gap / count);
  }
  Attribution result = pass.result(std::move(features), passes);
  result.gap = at::stack(gaps, 1);
  return result;
}

}  // namespace diffmask
