#include "diffmask/train/callback.hpp"

#include <gtest/gtest.h>

#include <csignal>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

std::string written(std::FILE* file) {
  std::rewind(file);
  std::string text;
  for (int c; (c = std::fgetc(file)) != EOF;) text += static_cast<char>(c);
  return text;
}

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

TEST(ProgressBarTest, WritesPlainLinesWhereThereIsNoTerminal) {
  const File file(std::tmpfile());
  const Callback bar = progress_bar("toy", file.get(), 250);
  StepRecord record{0, {{0, 0.25, 0.5, 1.0}, {1, 0.75, 0.75, 1.0}}};
  // A tenth of a second a step; the phase begins 2 s into the run.
  for (int64_t step = 1; step <= 600; ++step) {
    const double seconds = 2.0 + 0.1 * static_cast<double>(step);
    EXPECT_EQ(bar({Progress::Phase::train, step, 600, seconds, &record}), Action::proceed);
  }
  EXPECT_EQ(written(file.get()),
            "toy: 250/600 35 s left, D 0.5000, keep 62.5%\n"
            "toy: 500/600 10 s left, D 0.5000, keep 62.5%\n"
            "toy: 600/600 0 s left, D 0.5000, keep 62.5%\n");
}

TEST(ProgressBarTest, TellsTheWarmUpFromTraining) {
  const File file(std::tmpfile());
  const Callback bar = progress_bar("toy", file.get(), 100);
  for (int64_t step = 1; step <= 100; ++step) {
    bar({Progress::Phase::warm_up, step, 100, 1.0 * static_cast<double>(step)});
  }
  for (int64_t step = 1; step <= 100; ++step) {
    bar({Progress::Phase::train, step, 200, 100.0 + 0.1 * static_cast<double>(step)});
  }
  EXPECT_EQ(written(file.get()), "toy (baselines): 100/100 0 s left\ntoy: 100/200 10 s left\n");
}

TEST(ProgressBarTest, RefusesBadInput) {
  expect_refused({
      {"every 0", [] { progress_bar("toy", stderr, 0); }, "every has to be >= 1, but got 0"},
  });
}

volatile std::sig_atomic_t own_calls = 0;
extern "C" void own_handler(int) { own_calls = own_calls + 1; }

TEST(InterruptGuardTest, StopsAfterCtrlCAndBringsTheOldHandlerBack) {
  void (*const before)(int) = std::signal(SIGINT, own_handler);
  {
    const InterruptGuard guard;
    const Callback callback = guard.callback();
    EXPECT_EQ(callback({}), Action::proceed);
    EXPECT_FALSE(InterruptGuard::interrupted());
    std::raise(SIGINT);
    EXPECT_EQ(callback({}), Action::stop);
    EXPECT_TRUE(InterruptGuard::interrupted());
    EXPECT_EQ(own_calls, 0) << "the old handler is not called while the guard lives";
  }
  std::raise(SIGINT);
  EXPECT_EQ(own_calls, 1);
  {
    const InterruptGuard guard;  // knows nothing of what the one before saw
    EXPECT_EQ(guard.callback()({}), Action::proceed);
  }
  EXPECT_EQ(std::signal(SIGINT, before), own_handler);
}

TEST(InterruptGuardTest, ASecondCtrlCEndsTheProgram) {
  // The child of a threadsafe death test starts anew, without this process's LibTorch threads.
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        const InterruptGuard guard;
        std::raise(SIGINT);
        std::raise(SIGINT);
      },
      testing::KilledBySignal(SIGINT), "");
}

TEST(InterruptGuardTest, GuardsNest) {
  void (*const before)(int) = std::signal(SIGINT, own_handler);
  {
    const InterruptGuard outer;
    { const InterruptGuard inner; }
  }
  EXPECT_EQ(std::signal(SIGINT, before), own_handler);
}

}  // namespace
}  // namespace diffmask
