#include "diffmask/train/callback.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

volatile std::sig_atomic_t signals_seen = 0;

extern "C" void note_interrupt(int) {
  signals_seen = signals_seen + 1;
  std::signal(SIGINT, SIG_DFL);  // the next one ends the program
}

std::string bar(double share, int width) {
  const int full = static_cast<int>(share * width);
  return std::string(full, '#') + std::string(width - full, '.');
}

}  // namespace

Callback progress_bar(std::string title, std::FILE* out, int64_t every) {
  require(out != nullptr, "out", "an open file", "a null pointer");
  require(every >= 1, "every", ">= 1", every);
  const bool terminal = ::isatty(::fileno(out)) != 0;
  double phase_began = 0.0;
  return [=](const Progress& now) mutable {
    if (now.step <= 1) phase_began = now.seconds;
    const bool last = now.step == now.steps;
    if (!terminal && !last && now.step % every != 0) return Action::proceed;
    const double share = static_cast<double>(now.step) / static_cast<double>(now.steps);
    const double left = (now.seconds - phase_began) * (1 - share) / share;
    std::string line = fmt::format("{}{}: {}/{}", title,
                                   now.phase == Progress::Phase::warm_up ? " (baselines)" : "",
                                   now.step, now.steps);
    if (terminal) line += fmt::format(" [{}]", bar(share, 24));
    line += fmt::format(" {:.0f} s left", left);
    if (now.record) {
      double divergence = 0.0, keep = 0.0;
      for (const DepthStep& depth : now.record->depths) {
        divergence += depth.divergence / static_cast<double>(now.record->depths.size());
        keep += depth.keep / static_cast<double>(now.record->depths.size());
      }
      line += fmt::format(", D {:.4f}, keep {:.1f}%", divergence, 100 * keep);
    }
    // A terminal's line is written over, and cleared to its end.
    fmt::print(out, "{}{}{}", terminal ? "\r" : "", line,
               terminal ? (last ? "\033[K\n" : "\033[K") : "\n");
    std::fflush(out);
    return Action::proceed;
  };
}

InterruptGuard::InterruptGuard() : previous_handler_(std::signal(SIGINT, note_interrupt)) {
  signals_seen = 0;
}

InterruptGuard::~InterruptGuard() { std::signal(SIGINT, previous_handler_); }

bool InterruptGuard::interrupted() { return signals_seen > 0; }

Callback InterruptGuard::callback() const {
  return [](const Progress&) { return interrupted() ? Action::stop : Action::proceed; };
}

}  // namespace diffmask
