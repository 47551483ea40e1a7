#include "diffmask/train/summary.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace diffmask {

bool Summary::feasible() const {
  return !depths.empty() && std::all_of(depths.begin(), depths.end(),
                                        [](const DepthSummary& depth) { return depth.feasible; });
}

std::string Summary::brief_report() const {
  const auto within = std::count_if(depths.begin(), depths.end(),
                                    [](const DepthSummary& depth) { return depth.feasible; });
  return fmt::format("{} steps in {:.1f} s{}: {} of {} depths within {:g}", steps, seconds,
                     interrupted ? ", interrupted" : "", within, depths.size(), epsilon);
}

std::string Summary::full_report() const {
  size_t width = 4;
  for (const DepthSummary& depth : depths) width = std::max(width, depth.site.size());
  std::string text = brief_report() + "\n";
  text += fmt::format("  {:<{}}  {:>8}  {:>6}  {:>8}  {:>6}  {:>8}  {:>6}  {:>5}  {}\n", "site",
                      width, "D", "keep", "D hard", "keep", "D<=eps", "lambda", "step", "feasible");
  for (const DepthSummary& depth : depths) {
    const DepthEvaluation& v = depth.validation;
    text += fmt::format(
        "  {:<{}}  {:>8.4f}  {:>5.1f}%  {:>8.4f}  {:>5.1f}%  {:>7.1f}%  {:>6.1f}  {:>5}  {}\n",
        depth.site, width, v.divergence, 100 * v.keep, v.hard_divergence, 100 * v.hard_keep,
        100 * v.within, depth.multiplier, depth.step, depth.feasible ? "yes" : "no");
  }
  return text;
}

}  // namespace diffmask
