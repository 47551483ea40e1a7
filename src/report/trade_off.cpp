#include "diffmask/report/trade_off.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

// The curve of this name, added where there is none.
Curve& curve_of(Chart& chart, const std::string& name, bool dashed) {
  const auto found = std::find_if(chart.curves.begin(), chart.curves.end(),
                                  [&](const Curve& curve) { return curve.name == name; });
  if (found != chart.curves.end()) return *found;
  chart.curves.push_back({name, {}, dashed});
  return chart.curves.back();
}

}  // namespace

Chart trade_off_chart(const std::vector<MaskExperiment>& experiments, const std::string& figure) {
  require(!experiments.empty(), "experiments", "at least one", "none");
  const MaskExperiment& first = experiments.front();
  const double original = first.figure(first.original, figure);
  Chart chart{"What masks cost", "share masked", figure, {}};
  chart.curves.push_back({"original", {{0.0, original}, {1.0, original}}, /*dashed=*/true});
  for (const MaskExperiment& experiment : experiments) {
    for (const GatingScore& gating : experiment.gatings) {
      const DepthScore summary = gating.summary();
      const auto add = [&](const std::string& name, const MaskScore& score, bool dashed) {
        curve_of(chart, name, dashed)
            .points.emplace_back(score.masked_share, experiment.figure(score, figure));
      };
      add(gating.name, summary.chosen, /*dashed=*/false);
      for (size_t i = 0; i < summary.controls.size(); ++i) {
        add(fmt::format("{}, {}", gating.name, experiment.controls.at(i)), summary.controls[i],
            /*dashed=*/true);
      }
    }
  }
  return chart;
}

}  // namespace diffmask
