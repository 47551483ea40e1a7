#pragma once
/// \file
/// What an explainer is made of: its depths, the probe and the gate of each, and its baselines.
///
///     DiffMask method(model, {.masking = Masking::input,
///                             .sites = model->select("encoder.layer.*"),
///                             .probe = mlp_probe({.layer_norm = true}),
///                             .gate = std::make_shared<HardConcrete>()});

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/gate/ready.hpp"
#include "diffmask/mask/baseline.hpp"
#include "diffmask/mask/positions.hpp"
#include "diffmask/model/frozen_model.hpp"
#include "diffmask/probe/ready.hpp"

namespace diffmask {

enum class Masking { input, hidden };

struct ExplainerOptions {
  Masking masking = Masking::hidden;
  std::vector<std::string> sites = {};    ///< the depths, in execution order; if empty, all sites
  std::vector<Positions> positions = {};  ///< one for all sites, or one per site; empty: sequences
  ProbeFactory probe = mlp_probe();       ///< makes the probe of each depth
  std::shared_ptr<const Gate> gate = std::make_shared<HardConcrete>();
  BaselineOptions baseline = {};

  void validate() const {
    require(positions.size() <= 1 || positions.size() == sites.size(), "positions",
            fmt::format("one for all sites or one for each of {}", sites.size()), positions.size());
    for (const Positions& each : positions) each.validate();
    require(probe.make != nullptr, "probe.make", "a function", "none");
    require(gate != nullptr, "gate", "a gate", "a null pointer");
    baseline.validate();
  }

  /// Valid ones for this model, with all its sites where none were named; else ArgumentError.
  ExplainerOptions resolved(const FrozenModel& model) const {
    ExplainerOptions options = *this;
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
};

/// What an explainer has to know of a site's state.
struct SiteShape {
  int64_t features = 0;  ///< numbers that a probe reads of a position
  int64_t channels = 0;  ///< numbers of a baseline: fewer than features where a position is a patch
};

/// A user's gates and probes by the names that explainer files have for them, beside the library's.
struct PartFactories {
  std::map<std::string, GateFactory> gates = {};
  std::map<std::string, ProbeMaker> probes = {};
};

}  // namespace diffmask
