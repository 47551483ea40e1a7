#pragma once
/// \file
/// Callbacks watch a run and may end it; printing and early stopping are callbacks.

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "diffmask/train/summary.hpp"

namespace diffmask {

enum class Action { proceed, stop };

/// What a callback is shown after every step, warm-up and validation.
struct Progress {
  enum class Phase { warm_up, train };
  Phase phase = Phase::train;
  int64_t step = 0, steps = 0;                               ///< of this phase
  double seconds = 0.0;                                      ///< since the run began
  const StepRecord* record = nullptr;                        ///< in the training phase
  const std::vector<DepthEvaluation>* validation = nullptr;  ///< when this step was validated
};

using Callback = std::function<Action(const Progress&)>;

/// A bar with the time left where `out` is a terminal; otherwise a plain line each `every` steps.
Callback progress_bar(std::string title, std::FILE* out = stderr, int64_t every = 250);

/// While it lives, Ctrl-C (SIGINT) asks the run to stop after the step at hand, so that what has
/// been trained is kept; a second Ctrl-C ends the program. The old handler comes back at the end.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// Stops a run once Ctrl-C was pressed.
  Callback callback() const;
  static bool interrupted();

 private:
  void (*previous_handler_)(int);
};

}  // namespace diffmask
