#pragma once
/// \file
/// What masks cost, by how much they take: one experiment per epsilon as a chart.
///
///     write_file("trade_off.svg", svg_chart(trade_off_chart(experiments, "macro_f1")));

#include <string>
#include <vector>

#include "diffmask/metrics/mask_experiment.hpp"
#include "diffmask/report/chart.hpp"

namespace diffmask {

/// A curve per gating, by name, of (share masked, figure) of its summaries, in the order of the
/// experiments; a dashed one for each of its controls, and one for the model as it is. The
/// experiments have the same figures and controls; ArgumentError where there is no such figure.
Chart trade_off_chart(const std::vector<MaskExperiment>& experiments, const std::string& figure);

}  // namespace diffmask
