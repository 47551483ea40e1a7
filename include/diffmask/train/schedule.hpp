#pragma once
/// \file
/// Schedules: which depths a training step trains.
///
/// A schedule maps a step to depths, different ones, at least one. Any function of this type will
/// do; these are the usual ones:
///
///     Recipe recipe{.schedule = schedule::random};

#include <ATen/core/Generator.h>
#include <ATen/ops/randint.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace diffmask {

/// Where a run is.
struct ScheduleStep {
  int64_t step = 1;    ///< from 1
  int64_t steps = 1;   ///< of the whole run
  int64_t depths = 1;  ///< of the explainer
};

using Schedule =
    std::function<std::vector<int64_t>(const ScheduleStep& now, at::Generator generator)>;

namespace schedule {

/// Depths first, ..., depths - 1.
inline std::vector<int64_t> from(int64_t first, int64_t depths) {
  std::vector<int64_t> chosen(static_cast<size_t>(depths - first));
  std::iota(chosen.begin(), chosen.end(), first);
  return chosen;
}

/// One of 0, ..., depths - 1.
inline int64_t drawn(int64_t depths, at::Generator generator) {
  return at::randint(depths, {1}, std::move(generator), at::TensorOptions(at::kLong))
      .item<int64_t>();
}

/// Every depth, from one recording.
inline std::vector<int64_t> all(const ScheduleStep& now, const at::Generator&) {
  return from(0, now.depths);
}

/// One drawn at random: the published way, cheaper per step.
inline std::vector<int64_t> random(const ScheduleStep& now, at::Generator generator) {
  return {drawn(now.depths, std::move(generator))};
}

/// The deepest first, one more every steps / depths steps (GraphMask).
inline std::vector<int64_t> top_down(const ScheduleStep& now, const at::Generator&) {
  return from(now.depths - 1 - (now.step - 1) * now.depths / now.steps, now.depths);
}

/// The deepest and another one drawn at random. With input gating the deepest's gates are the
/// product of all, so each step trains every probe, at a third of the cost of `all`.
inline std::vector<int64_t> deepest_and_random(const ScheduleStep& now, at::Generator generator) {
  if (now.depths == 1) return {0};
  return {drawn(now.depths - 1, std::move(generator)), now.depths - 1};
}

/// The same, but for the first half of the steps the deepest is 0, then 1, ...: what a low depth
/// can tell from words alone is settled before deep ones, which know the prediction, begin.
inline std::vector<int64_t> bottom_up(const ScheduleStep& now, at::Generator generator) {
  const int64_t newest = std::min((now.step - 1) * 2 * now.depths / now.steps, now.depths - 1);
  if (newest == 0) return {0};
  return {drawn(newest, std::move(generator)), newest};
}

/// All of these by their names.
const std::map<std::string, Schedule>& ready();

}  // namespace schedule
}  // namespace diffmask
