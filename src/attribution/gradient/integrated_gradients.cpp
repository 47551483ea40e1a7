#include "diffmask/attribution/gradient/integrated_gradients.hpp"

#include <ATen/ATen.h>

#include <string>
#include <utility>

#include "attribution/gradient/gradients.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/quadrature.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/data/dataset.hpp"

namespace diffmask {
namespace {

using Rule = IntegratedGradientsOptions::Rule;

// Nodes and weights on [0, 1] of all rules but the random one.
std::pair<std::vector<double>, std::vector<double>> quadrature(Rule rule, int64_t steps) {
  if (rule == Rule::gauss_legendre) return gauss_legendre(static_cast<int>(steps));
  const auto n = static_cast<double>(steps);
  std::vector<double> nodes, weights(static_cast<size_t>(steps), 1 / n);
  for (int64_t i = 0; i < steps; ++i) {
    const auto k = static_cast<double>(i);
    if (rule == Rule::trapezoid) nodes.push_back(k / (n - 1));
    if (rule == Rule::left) nodes.push_back(k / n);
    if (rule == Rule::middle) nodes.push_back((k + 0.5) / n);
    if (rule == Rule::right) nodes.push_back((k + 1) / n);
  }
  if (rule == Rule::trapezoid) {
    weights.assign(static_cast<size_t>(steps), 1 / (n - 1));
    weights.front() = weights.back() = 0.5 / (n - 1);
  }
  return {nodes, weights};
}

// Brings one number per row to a shape that broadcasts against a state.
at::Tensor a_row(const at::Tensor& values, const at::Tensor& state) {
  std::vector<int64_t> shape(static_cast<size_t>(state.dim()), 1);
  shape[0] = -1;
  return values.to(state.scalar_type()).view(shape);
}

// The way from one draw of the fills to the recorded states of some sites.
struct Path {
  std::vector<std::string> sites;
  std::vector<at::Tensor> from, way;  // b and h - b, (B, ...) each

  // b + a (h - b). Shape: examples, a (N).
  std::vector<Replacement> at(const at::Tensor& examples, const at::Tensor& a) const {
    std::vector<Replacement> states;
    for (size_t i = 0; i < sites.size(); ++i) {
      const at::Tensor step = way[i].index_select(0, examples);
      states.push_back(
          {sites[i], at::addcmul(from[i].index_select(0, examples), step, a_row(a, step))});
    }
    return states;
  }
};

// All of a row but its number is summed, over all sites. Shape: (B, ...) -> (B).
at::Tensor total(const std::vector<at::Tensor>& features) {
  at::Tensor sum;
  for (const at::Tensor& part : features) {
    const at::Tensor row = part.flatten(1).sum(1, /*keepdim=*/false, at::kDouble);
    sum = sum.defined() ? sum + row : row;
  }
  return sum;
}

// Integrates along paths that move some sites together.
class Integrator {
 public:
  Integrator(const SiteMethod::Original& original, const IntegratedGradientsOptions& settings,
             const std::vector<int64_t>& depths)
      : original_(original), settings_(settings) {
    for (int64_t draw = 0; draw < settings.baselines; ++draw) {
      Path path;
      for (const int64_t depth : depths) {
        path.sites.push_back(original.site(depth));
        path.from.push_back(original.fill(depth));
        path.way.push_back(original.state(depth) - path.from.back());
      }
      paths_.push_back(std::move(path));
    }
  }

  // Refines until the gaps are small enough. One tensor per site.
  std::vector<at::Tensor> features() {
    at::Tensor examples = original_.examples();
    const at::Tensor change = change_of_value();
    std::vector<at::Tensor> features = integrate(examples, settings_.steps);
    gap_ = change - total(features);
    const bool adaptive = settings_.tolerance > 0 && settings_.rule != Rule::random;
    for (int64_t steps = 2 * settings_.steps; adaptive && steps <= settings_.max_steps;
         steps *= 2) {
      examples = gap_.abs().gt(settings_.tolerance * change.abs()).nonzero().squeeze(1);
      if (examples.size(0) == 0) break;
      const auto finer = integrate(examples, steps);
      for (size_t i = 0; i < features.size(); ++i) features[i].index_copy_(0, examples, finer[i]);
      gap_.index_copy_(0, examples, change.index_select(0, examples) - total(finer));
    }
    return features;
  }

  // (B), once there are features.
  const at::Tensor& gap() const { return gap_; }

 private:
  // y(h) - y(b), a mean over baselines. Shape: (B).
  at::Tensor change_of_value() const {
    const at::Tensor examples = original_.examples(), start = at::zeros_like(examples);
    at::Tensor change = original_.value.to(at::kDouble);
    for (const Path& path : paths_) {
      std::vector<at::Tensor> values;
      original_.passes.each(path.sites, examples, [&](const Passes::Chunk& chunk) {
        const auto cut = [&](const at::Tensor& t) { return t.slice(0, chunk.begin, chunk.end); };
        const at::Tensor output =
            original_.model.resume(chunk.recording, path.at(cut(examples), cut(start)));
        values.push_back(target::value(original_.options.target, output, chunk.recording.output()));
      });
      change = change - at::cat(values).to(at::kDouble) / static_cast<double>(paths_.size());
    }
    return change;
  }

  // Of these examples alone.
  std::vector<at::Tensor> integrate(const at::Tensor& examples, int64_t steps) const {
    std::vector<at::Tensor> features;
    for (const Path& path : paths_) {
      const auto integral = integrate(path, examples, steps);
      for (size_t i = 0; i < integral.size(); ++i) {
        const at::Tensor share = integral[i] * path.way[i].index_select(0, examples) /
                                 static_cast<double>(paths_.size());
        if (features.size() == i) features.push_back(at::zeros_like(share));
        features[i] += share;
      }
    }
    return features;
  }

  // The integral of the gradient along a path. First step of each example, second step of each, ...
  std::vector<at::Tensor> integrate(const Path& path, const at::Tensor& examples,
                                    int64_t steps) const {
    const int64_t count = examples.size(0);
    const at::Tensor rows = examples.repeat({steps});
    const at::Tensor places = at::arange(count, examples.options()).repeat({steps});
    const auto [nodes, weights] = nodes_and_weights(count, steps, examples.device());
    std::vector<at::Tensor> integral;
    for (const at::Tensor& way : path.way) {
      integral.push_back(at::zeros_like(way.index_select(0, examples)));
    }
    original_.passes.each(
        path.sites, rows, [&, &nodes = nodes, &weights = weights](const Passes::Chunk& chunk) {
          const auto cut = [&](const at::Tensor& t) { return t.slice(0, chunk.begin, chunk.end); };
          const auto gradients =
              target_gradients(original_, chunk.recording, path.at(cut(rows), cut(nodes)));
          for (size_t i = 0; i < gradients.size(); ++i) {
            const at::Tensor weighted = gradients[i] * a_row(cut(weights), gradients[i]);
            integral[i].index_add_(0, cut(places), weighted);
          }
        });
    return integral;
  }

  // For each step and example. Shape: (steps * count) each.
  std::pair<at::Tensor, at::Tensor> nodes_and_weights(int64_t count, int64_t steps,
                                                      c10::Device device) const {
    if (settings_.rule == Rule::random) {
      const at::TensorOptions doubles(at::kDouble);
      return {drawn_uniform({steps * count}, settings_.generator, doubles.device(device)),
              at::full({steps * count}, 1.0 / static_cast<double>(steps), doubles.device(device))};
    }
    const auto [nodes, weights] = quadrature(settings_.rule, steps);
    const auto spread = [&](const std::vector<double>& values) {
      return at::tensor(values, at::kDouble).to(device).repeat_interleave(count);
    };
    return {spread(nodes), spread(weights)};
  }

  const SiteMethod::Original& original_;
  const IntegratedGradientsOptions& settings_;
  std::vector<Path> paths_;
  at::Tensor gap_;
};

}  // namespace

void IntegratedGradientsOptions::validate() const {
  require(steps >= 1, "steps", ">= 1", steps);
  require(rule != Rule::trapezoid || steps >= 2, "steps", ">= 2 for trapezoids", steps);
  require(tolerance >= 0 && tolerance < 1, "tolerance", "in [0, 1)", tolerance);
  require(max_steps >= 1, "max_steps", ">= 1", max_steps);
  require(baselines >= 1, "baselines", ">= 1", baselines);
  require(rule != Rule::random || generator.defined(), "generator", "given for random steps",
          "none");
}

IntegratedGradients::IntegratedGradients(std::shared_ptr<const FrozenModel> model,
                                         AttributionOptions options,
                                         IntegratedGradientsOptions settings)
    : SiteMethod(std::move(model), std::move(options)), settings_(std::move(settings)) {
  settings_.validate();
}

SiteMethod::Column IntegratedGradients::explain(const Original& original, int64_t depth) const {
  Integrator integrator(original, settings_, {depth});
  Column column = summed(original, depth, integrator.features()[0]);
  column.gap = integrator.gap();
  return column;
}

std::vector<SiteMethod::Column> IntegratedGradients::explain_all(const Original& original) const {
  if (!settings_.together) return SiteMethod::explain_all(original);
  const std::vector<int64_t> depths = iota(static_cast<int64_t>(options().sites.size()));
  Integrator integrator(original, settings_, depths);
  const std::vector<at::Tensor> features = integrator.features();
  std::vector<Column> columns;
  for (const int64_t depth : depths) {
    columns.push_back(summed(original, depth, features[static_cast<size_t>(depth)]));
    columns.back().gap = integrator.gap();
  }
  return columns;
}

}  // namespace diffmask
