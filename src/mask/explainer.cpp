#include "diffmask/mask/explainer.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/gate/bernoulli.hpp"
#include "diffmask/mask/masking.hpp"

namespace diffmask {

void BaselineOptions::validate() const {
  require((start == Start::given) == !vectors.empty(), "baseline.vectors",
          "given with Start::given, and only then", fmt::format("{} vectors", vectors.size()));
}

void ExplainerOptions::validate() const {
  require(positions.size() <= 1 || positions.size() == sites.size(), "positions",
          fmt::format("one for all sites or one for each of {}", sites.size()), positions.size());
  for (const Positions& each : positions) each.validate();
  probe.validate();
  free_logits.validate();
  gate.validate();
  baseline.validate();
}

namespace {

std::shared_ptr<const Gate> make_gate(const ExplainerOptions& options) {
  if (options.gate_kind == GateKind::bernoulli) return std::make_shared<Bernoulli>();
  return std::make_shared<HardConcrete>(options.gate);
}

const Positions& positions_of(const ExplainerOptions& options, int64_t depth) {
  static const Positions sequence;
  if (options.positions.empty()) return sequence;
  return options.positions.size() == 1 ? options.positions[0] : options.positions[depth];
}

// Names every site, checked against the model before anything is built.
ExplainerOptions resolve(const FrozenModel& model, ExplainerOptions options) {
  if (options.sites.empty()) options.sites = model.site_names();
  int64_t last = -1;
  for (const std::string& name : options.sites) {
    const int64_t depth = model.site(name).depth;
    require(depth > last, "sites", "in execution order, each once",
            fmt::format("{}", fmt::join(options.sites, ", ")));
    last = depth;
  }
  options.validate();
  return options;
}

std::vector<SiteShape> shapes_of(const ExplainerOptions& options, const Recording& recording,
                                 const Batch& batch) {
  batch.validate();
  std::vector<SiteShape> shapes;
  for (size_t depth = 0; depth < options.sites.size(); ++depth) {
    const Positions& positions = positions_of(options, static_cast<int64_t>(depth));
    const at::Tensor& state = recording.state(options.sites[depth]);
    check_finite(fmt::format("state at '{}'", options.sites[depth]), state);
    const at::Tensor features = positions.features(state);
    check_shape("batch.mask", batch.mask, {features.size(0), features.size(1)});
    shapes.push_back({features.size(2), positions.channels(state)});
  }
  return shapes;
}

}  // namespace

Explainer::Explainer(ExplainerOptions options, std::vector<SiteShape> shapes, Capacity capacity,
                     at::Generator generator)
    : options_(std::move(options)),
      shapes_(std::move(shapes)),
      capacity_(capacity),
      gate_(make_gate(options_)) {
  options_.validate();
  require(!options_.sites.empty(), "sites", "at least one", "none");
  require(shapes_.size() == options_.sites.size(), "shapes", "one a site", shapes_.size());
  const bool hidden = options_.masking == Masking::hidden;
  const auto& given = options_.baseline.vectors;
  const int64_t masked_sites = hidden ? depths() : 1;
  require(given.empty() || static_cast<int64_t>(given.size()) == masked_sites, "baseline.vectors",
          fmt::format("one for each of {} masked sites", masked_sites), given.size());
  for (int64_t depth = 0; depth < depths(); ++depth) {
    if (options_.per_sample) {
      probes_.push_back(std::make_shared<FreeLogits>(capacity.examples, capacity.positions,
                                                     options_.free_logits));
    } else {
      const int64_t first = hidden || depth == 0 ? 0 : shapes_[0].features;
      probes_.push_back(
          std::make_shared<MlpProbe>(first + shapes_[depth].features, options_.probe, generator));
    }
    register_module(fmt::format("probe{}", depth), probes_.back());

    if (depth >= masked_sites) continue;
    at::Tensor start = at::zeros({shapes_[depth].channels});
    if (!given.empty()) {
      check_shape(fmt::format("baseline.vectors[{}]", depth), given[depth], {start.size(0)});
      start.copy_(given[depth].detach());
    }
    baselines_.push_back(
        register_parameter(fmt::format("baseline{}", depth), start, options_.baseline.learned));
  }
}

Explainer::Explainer(const FrozenModel& model, ExplainerOptions options, const Recording& recording,
                     const Batch& batch, Capacity capacity, at::Generator generator)
    : Explainer(resolve(model, options), shapes_of(resolve(model, options), recording, batch),
                capacity, std::move(generator)) {
  at::NoGradGuard no_grad;
  const at::Tensor& first = recording.state(options_.sites[0]);
  to(first.device(), first.scalar_type());
  for (int64_t depth = 0; depth < depths(); ++depth) {
    probes_[depth]->start(features(recording, depth).index({batch.mask}));
  }
  if (options_.baseline.start != BaselineOptions::Start::mean) return;
  for (size_t depth = 0; depth < baselines_.size(); ++depth) {
    baselines_[depth].copy_(positions(static_cast<int64_t>(depth))
                                .channel_values(recording.state(options_.sites[depth]), batch.mask)
                                .mean(0));
  }
}

const Positions& Explainer::positions(int64_t depth) const { return positions_of(options_, depth); }

int64_t Explainer::masked_depth(int64_t depth) const {
  require(depth >= 0 && depth < depths(), "depth", fmt::format("in 0..{}", depths() - 1), depth);
  return options_.masking == Masking::hidden ? depth : 0;
}

const std::string& Explainer::masked_site(int64_t depth) const {
  return options_.sites[masked_depth(depth)];
}

at::Tensor Explainer::features(const Recording& recording, int64_t depth) const {
  const auto features_at = [&](int64_t d) {
    const std::string& site = options_.sites[d];
    check_finite(fmt::format("state at '{}'", site), recording.state(site));
    return positions(d).features(recording.state(site));
  };
  const bool with_first = !options_.per_sample && options_.masking == Masking::input && depth > 0;
  return with_first ? at::cat({features_at(0), features_at(depth)}, -1) : features_at(depth);
}

at::Tensor Explainer::logits(const Recording& recording, const Batch& batch, int64_t depth,
                             const Dropout& dropout) const {
  const at::Tensor read = features(recording, depth);
  check_shape("batch.mask", batch.mask, {read.size(0), read.size(1)});
  return probes_[depth]->logits(read, batch.examples, dropout);
}

std::vector<Gates> Explainer::gates(const Recording& recording, const Batch& batch,
                                    const std::vector<int64_t>& depths, Draw draw,
                                    at::Generator generator, const Dropout& dropout) const {
  require(!depths.empty(), "depths", "at least one", "none");
  for (const int64_t depth : depths) masked_depth(depth);  // throws where there is no such depth
  require(draw != Draw::sample || generator.defined(), "generator", "given, to sample", "none");
  const bool cumulative = options_.masking == Masking::input;
  const int64_t deepest = *std::max_element(depths.begin(), depths.end());
  const at::Tensor fixed = batch.groups.defined()
                               ? batch.mask.logical_and(batch.groups.ge(0)).logical_not()
                               : batch.mask.logical_not();
  // Which logits draw a gate that counts: a position's own, or a group's, whose number they have.
  const at::Tensor free = fixed.logical_not();
  const at::Tensor drawing =
      batch.groups.defined() ? group_mean(free.to(at::kFloat), batch.groups).gt(0) : free;
  std::vector<Gates> by_depth(static_cast<size_t>(deepest) + 1);
  for (int64_t depth = 0; depth <= deepest; ++depth) {
    const bool wanted = std::find(depths.begin(), depths.end(), depth) != depths.end();
    if (!cumulative && !wanted) continue;
    at::Tensor logit = logits(recording, batch, depth, dropout);
    if (batch.groups.defined()) logit = group_mean(logit, batch.groups);
    Gates gates{gate_->log_expected_l0(logit), {}};
    // Hard gates are those of the cumulated probability, so they have to wait for it.
    if (draw == Draw::mean) gates.z = gate_->mean(logit);
    if (draw == Draw::sample) {
      gates.z = gate_->sample(logit, generator);
      const at::Tensor log_prob = gate_->log_prob(gates.z, logit);
      if (log_prob.defined()) gates.log_prob = (log_prob * drawing).sum(1);
    }
    if (batch.groups.defined()) {
      gates.log_keep = spread_groups(gates.log_keep, batch.groups);
      if (gates.z.defined()) gates.z = spread_groups(gates.z, batch.groups);
    }
    if (cumulative && depth > 0) {
      const Gates& below = by_depth[depth - 1];
      gates.log_keep = gates.log_keep + below.log_keep;
      if (gates.z.defined()) gates.z = gates.z * below.z;
      if (gates.log_prob.defined()) gates.log_prob = gates.log_prob + below.log_prob;
    }
    by_depth[depth] = gates;
  }
  std::vector<Gates> result;
  for (const int64_t depth : depths) {
    Gates gates = by_depth[depth];
    gates.log_keep = gates.log_keep.masked_fill(fixed, 0.0);
    if (draw == Draw::hard) gates.z = gates.log_keep.exp().gt(0.5).to(gates.log_keep.scalar_type());
    gates.z = gates.z.masked_fill(fixed, 1.0);
    result.push_back(std::move(gates));
  }
  return result;
}

at::Tensor Explainer::masked_state(const Recording& recording, int64_t depth,
                                   const at::Tensor& z) const {
  const int64_t at = masked_depth(depth);
  const at::Tensor& state = recording.state(options_.sites[at]);
  check_shape("z", z, {state.size(0), -1});
  return masked(state, positions(at).expand(z, state), positions(at).expand_vector(baselines_[at]));
}

at::Tensor Explainer::masked_output(const FrozenModel& model, const Recording& recording,
                                    int64_t depth, const at::Tensor& z) const {
  return model.resume(recording, masked_site(depth), masked_state(recording, depth, z));
}

std::vector<at::Tensor> Explainer::gate_parameters() const {
  std::vector<at::Tensor> all;
  for (const auto& probe : probes_) {
    for (const at::Tensor& parameter : probe->parameters()) all.push_back(parameter);
  }
  return all;
}

std::vector<std::string> Explainer::own_parameters(int64_t depth) const {
  masked_depth(depth);  // throws where there is no such depth
  if (options_.masking == Masking::input) return {};
  std::vector<std::string> names = {fmt::format("baseline{}", depth)};
  for (const auto& item : probes_[depth]->named_parameters()) {
    names.push_back(fmt::format("probe{}.{}", depth, item.key()));
  }
  return names;
}

void Explainer::project() {
  for (const auto& probe : probes_) probe->project();
}

}  // namespace diffmask
