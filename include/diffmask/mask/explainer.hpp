#pragma once
/// \file
/// The explainer: the trained part of DiffMask, a probe per depth and a baseline per masked site.
///
///     hidden gating:  logit_l = g_l(h_l)            z_l alone masks h_l
///     input gating:   logit_l = g_l([h_0; h_l])     z_0 z_1 ... z_l masks h_0
///
/// With input gating a position that is dropped at a depth stays dropped above, and
/// log P(z != 0) is the sum over depths (De Cao et al. 2020, section 3).

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/data/batch.hpp"
#include "diffmask/mask/explainer_options.hpp"
#include "diffmask/mask/masking.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

/// How z is got from a logit: drawn, its mean, or 1[P(z != 0) > 0.5].
enum class Draw { sample, mean, hard };

/// The gates of one depth over a batch; outside of the batch's mask z = 1 and log P = 0.
struct Gates {
  at::Tensor log_keep;  ///< (B, P): log P(z != 0), over all depths up to this one for input gating
  at::Tensor z = {};    ///< (B, P)
  /// (B): log q of the gates drawn, over all depths up to this one for input gating; of samples
  /// that have no gradient (Gate::log_prob), else undefined.
  at::Tensor log_prob = {};
};

class Explainer : public torch::nn::Module {
 public:
  /// Untrained, with baselines as given or zero; one of `shapes` per site, in the sites' order.
  Explainer(ExplainerOptions options, std::vector<SiteShape> shapes, Capacity capacity,
            at::Generator generator)
      : options_(std::move(options)), shapes_(std::move(shapes)), capacity_(capacity) {
    options_.validate();
    require(!options_.sites.empty(), "sites", "at least one", "none");
    require(shapes_.size() == options_.sites.size(), "shapes", "one per site", shapes_.size());
    make_probes(generator);
    make_baselines();
  }

  /// The same with shapes, device, the probes' scale and mean states taken from one recorded batch.
  Explainer(const FrozenModel& model, const ExplainerOptions& options, const Recording& recording,
            const Batch& batch, Capacity capacity, at::Generator generator)
      : Explainer(options.resolved(model), shapes_of(options.resolved(model), recording, batch),
                  capacity, std::move(generator)) {
    at::NoGradGuard no_grad;
    const at::Tensor& first = recording.state(options_.sites[0]);
    to(first.device(), first.scalar_type());
    for (int64_t depth = 0; depth < depths(); ++depth) {
      probe(depth).start(features(recording, depth).index({batch.mask}));
    }
    if (options_.baseline.start != BaselineOptions::Start::mean) return;
    for (size_t depth = 0; depth < baselines_.size(); ++depth) {
      const at::Tensor& state = recording.state(options_.sites[depth]);
      baselines_[depth].copy_(
          positions_at(options_.positions, depth).channel_values(state, batch.mask).mean(0));
    }
  }

  int64_t depths() const { return static_cast<int64_t>(options_.sites.size()); }
  const std::vector<std::string>& sites() const { return options_.sites; }
  const ExplainerOptions& options() const { return options_; }
  const std::vector<SiteShape>& shapes() const { return shapes_; }
  const Capacity& capacity() const { return capacity_; }

  /// The site that is masked at a depth: its own, or the first for input gating.
  const std::string& masked_site(int64_t depth) const {
    return options_.sites[masked_depth(depth)];
  }

  /// The probe of a depth.
  Probe& probe(int64_t depth) const {
    check_depth(depth);
    return *probes_[static_cast<size_t>(depth)];
  }

  /// The gates of each of `depths`, all from one recording; the generator is used for Draw::sample,
  /// dropout in training alone.
  std::vector<Gates> gates(const Recording& recording, const Batch& batch,
                           const std::vector<int64_t>& depths, Draw draw,
                           at::Generator generator = {}, const Dropout& dropout = {}) const {
    require(!depths.empty(), "depths", "at least one", "none");
    for (const int64_t depth : depths) {
      check_depth(depth);
      require(std::count(depths.begin(), depths.end(), depth) == 1, "depths", "each once",
              fmt::format("{}", fmt::join(depths, ", ")));
    }
    require(draw != Draw::sample || generator.defined(), "generator", "given, to sample", "none");
    const bool cumulative = options_.masking == Masking::input;
    const int64_t deepest = *std::max_element(depths.begin(), depths.end());
    std::vector<Gates> by_depth(static_cast<size_t>(deepest) + 1);
    for (int64_t depth = 0; depth <= deepest; ++depth) {
      const bool wanted = std::find(depths.begin(), depths.end(), depth) != depths.end();
      if (!cumulative && !wanted) continue;
      Gates gates = drawn(logits(recording, batch, depth, dropout), batch, draw, generator);
      if (cumulative && depth > 0) multiply(gates, by_depth[static_cast<size_t>(depth) - 1]);
      by_depth[static_cast<size_t>(depth)] = std::move(gates);
    }
    const at::Tensor fixed = free_positions(batch).logical_not();
    std::vector<Gates> result;
    for (const int64_t depth : depths) {
      Gates gates = by_depth[static_cast<size_t>(depth)];
      gates.log_keep = gates.log_keep.masked_fill(fixed, 0.0);
      // Hard gates are those of the cumulated probability, so they had to wait for it.
      if (draw == Draw::hard) {
        gates.z = gates.log_keep.exp().gt(0.5).to(gates.log_keep.scalar_type());
      }
      gates.z = gates.z.masked_fill(fixed, 1.0);
      result.push_back(std::move(gates));
    }
    return result;
  }

  /// z h + (1 - z) b at the depth's masked site.
  at::Tensor masked_state(const Recording& recording, int64_t depth, const at::Tensor& z) const {
    const size_t at = masked_depth(depth);
    const at::Tensor& state = recording.state(options_.sites[at]);
    const Positions& positions = positions_at(options_.positions, at);
    check_shape("z", z, {positions.examples(state), -1});
    return masked(state, positions.expand(z, state), positions.expand_vector(baselines_[at]));
  }

  /// The model's output with the depth's site masked by z.
  at::Tensor masked_output(const FrozenModel& model, const Recording& recording, int64_t depth,
                           const at::Tensor& z) const {
    return model.resume(recording, masked_site(depth), masked_state(recording, depth, z));
  }

  std::vector<at::Tensor> gate_parameters() const {
    std::vector<at::Tensor> all;
    for (const auto& probe : probes_) {
      for (const at::Tensor& parameter : probe->parameters()) all.push_back(parameter);
    }
    return all;
  }

  std::vector<at::Tensor> baselines() const { return baselines_; }

  /// The parameters that a depth's result rests on: with hidden gating its own probe and baseline,
  /// with input gating, where depths share both, all of them.
  std::vector<at::Tensor> parameters_of(int64_t depth) const {
    check_depth(depth);
    if (options_.masking == Masking::input) return parameters();
    std::vector<at::Tensor> all = probe(depth).parameters();
    all.push_back(baselines_[static_cast<size_t>(depth)]);
    return all;
  }

  /// Keeps parameters in their allowed set; called after each update.
  void project() {
    for (const auto& probe : probes_) probe->project();
  }

 private:
  static std::vector<SiteShape> shapes_of(const ExplainerOptions& options,
                                          const Recording& recording, const Batch& batch) {
    batch.validate();
    std::vector<SiteShape> shapes;
    for (size_t depth = 0; depth < options.sites.size(); ++depth) {
      const Positions& positions = positions_at(options.positions, depth);
      const at::Tensor& state = recording.state(options.sites[depth]);
      check_finite(fmt::format("state at '{}'", options.sites[depth]), state);
      const at::Tensor features = positions.features(state);
      check_shape("batch.mask", batch.mask, {features.size(0), features.size(1)});
      shapes.push_back({features.size(2), positions.channels(state)});
    }
    return shapes;
  }

  // Whether a depth's probe reads [h_0; h_l].
  bool reads_first(int64_t depth) const {
    return !options_.probe.per_sample && options_.masking == Masking::input && depth > 0;
  }

  void make_probes(const at::Generator& generator) {
    for (int64_t depth = 0; depth < depths(); ++depth) {
      const int64_t first = reads_first(depth) ? shapes_[0].features : 0;
      const int64_t features = first + shapes_[static_cast<size_t>(depth)].features;
      probes_.push_back(options_.probe.make({features, capacity_}, generator));
      require(probes_.back() != nullptr, "probe.make", "a function that gives a probe",
              "one that gives a null pointer");
      register_module(fmt::format("probe{}", depth), probes_.back());
    }
  }

  void make_baselines() {
    const auto& given = options_.baseline.vectors;
    const size_t masked_sites = options_.masking == Masking::hidden ? shapes_.size() : 1;
    require(given.empty() || given.size() == masked_sites, "baseline.vectors",
            fmt::format("one for each of {} masked sites", masked_sites), given.size());
    for (size_t site = 0; site < masked_sites; ++site) {
      at::Tensor start = at::zeros({shapes_[site].channels});
      if (!given.empty()) {
        check_shape(fmt::format("baseline.vectors[{}]", site), given[site], {start.size(0)});
        start.copy_(given[site].detach());
      }
      baselines_.push_back(
          register_parameter(fmt::format("baseline{}", site), start, options_.baseline.learned));
    }
  }

  void check_depth(int64_t depth) const {
    require(depth >= 0 && depth < depths(), "depth", fmt::format("in 0..{}", depths() - 1), depth);
  }

  size_t masked_depth(int64_t depth) const {
    check_depth(depth);
    return options_.masking == Masking::hidden ? static_cast<size_t>(depth) : 0;
  }

  // What the probe of a depth reads. Shape: (B, P, F).
  at::Tensor features(const Recording& recording, int64_t depth) const {
    const auto features_at = [&](size_t d) {
      const std::string& site = options_.sites[d];
      check_finite(fmt::format("state at '{}'", site), recording.state(site));
      return positions_at(options_.positions, d).features(recording.state(site));
    };
    const at::Tensor here = features_at(static_cast<size_t>(depth));
    return reads_first(depth) ? at::cat({features_at(0), here}, -1) : here;
  }

  at::Tensor logits(const Recording& recording, const Batch& batch, int64_t depth,
                    const Dropout& dropout) const {
    const at::Tensor read = features(recording, depth);
    check_shape("batch.mask", batch.mask, {read.size(0), read.size(1)});
    const at::Tensor logits = probe(depth).logits({read, batch.mask, batch.examples}, dropout);
    check_shape(fmt::format("logits of the probe at '{}'", sites()[static_cast<size_t>(depth)]),
                logits, batch.mask.sizes());
    return logits;
  }

  // The gates of one depth alone; positions of a group share one.
  Gates drawn(const at::Tensor& logits, const Batch& batch, Draw draw,
              const at::Generator& generator) const {
    const bool grouped = batch.groups.defined();
    const at::Tensor logit = grouped ? group_mean(logits, batch.groups) : logits;
    Gates gates{options_.gate->log_expected_l0(logit)};
    if (draw == Draw::mean) gates.z = options_.gate->mean(logit);
    if (draw == Draw::sample) {
      gates.z = options_.gate->sample(logit, generator);
      const at::Tensor log_prob = options_.gate->log_prob(gates.z, logit);
      // Which logits draw a gate that counts: a position's own, or a group's.
      const at::Tensor free = free_positions(batch);
      const at::Tensor counts =
          grouped ? group_mean(free.to(at::kFloat), batch.groups).gt(0) : free;
      if (log_prob.defined()) gates.log_prob = (log_prob * counts).sum(1);
    }
    if (grouped) {
      gates.log_keep = spread_groups(gates.log_keep, batch.groups);
      if (gates.z.defined()) gates.z = spread_groups(gates.z, batch.groups);
    }
    check_shape("gate.log_expected_l0(logits)", gates.log_keep, logits.sizes());
    return gates;
  }

  // z_l becomes z_0 ... z_l, log P(z_l != 0) the sum up to l.
  static void multiply(Gates& gates, const Gates& below) {
    gates.log_keep = gates.log_keep + below.log_keep;
    if (gates.z.defined()) gates.z = gates.z * below.z;
    if (gates.log_prob.defined()) gates.log_prob = gates.log_prob + below.log_prob;
  }

  ExplainerOptions options_;
  std::vector<SiteShape> shapes_;
  Capacity capacity_;
  std::vector<std::shared_ptr<Probe>> probes_;
  std::vector<at::Tensor> baselines_;
};

}  // namespace diffmask
