// What the main functions of the examples have in common.
#pragma once
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "diffmask/attribution/passes.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/short_spin.hpp"
#include "diffmask/train/callback.hpp"

/// As many as asked for; 0: one per core.
inline void use_threads(int64_t threads) {
  const int cores = static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
  at::set_num_threads(threads > 0 ? static_cast<int>(threads) : cores);
}

/// The most memory that the program has held at once, in MB.
inline double peak_rss_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

/// An option with a line of help that tells its default.
template <typename Value>
CLI::Option* add_option(CLI::App& app, const std::string& name, Value& value,
                        const std::string& help) {
  return app.add_option(name, value, help)->capture_default_str();
}

/// A number that is `least` or more.
inline CLI::Option* add_number(CLI::App& app, const std::string& name, int64_t& value,
                               const std::string& help, int64_t least = 1) {
  constexpr int64_t kMost = int64_t{1} << 40;
  return add_option(app, name, value, help)->check(CLI::Range(least, kMost));
}

/// A number as JSON, which has no infinity.
inline nlohmann::json number(double value) {
  return std::isinf(value) ? nlohmann::json("inf") : nlohmann::json(value);
}

/// Writes what was measured to the file of --json, if one is named.
inline void write_json(const std::string& file, const nlohmann::json& report) {
  if (!file.empty()) diffmask::write_file(file, report.dump(2) + "\n");
}

/// Prints the mean of each name, e.g. of each class of words; as JSON, by name.
inline nlohmann::json told_means(const std::string& what, const std::vector<std::string>& names,
                                 const std::vector<double>& means) {
  nlohmann::json by_name;
  fmt::print("\n{}: ", what);
  for (size_t i = 0; i < names.size(); ++i) {
    fmt::print("{} {:.2f}  ", names[i], means.at(i));
    by_name[names[i]] = means[i];
  }
  fmt::print("\n");
  return by_name;
}

/// Options that most examples have.
struct CommonOptions {
  std::string data, html, json;
  uint64_t seed = 0;
  bool smoke = false;

  void add_to(CLI::App& app, const std::string& data_help) {
    add_option(app, "--data", data, data_help);
    add_option(app, "--html", html, "Write pictures here, as a page");
    app.add_option("--json", json, "Write the figures here");
    add_seed_and_smoke(app);
  }

  /// Whether data are made: a quick run that was given none.
  bool made() const {
    diffmask::require(smoke || !data.empty(), "--data", "given, or --smoke", "neither");
    return data.empty();
  }

  void add_seed_and_smoke(CLI::App& app) {
    add_option(app, "--seed", seed, "Seed of everything that is drawn");
    app.add_flag("--smoke", smoke,
                 "A quick run of a few steps, on small made data: its figures say nothing");
  }
};

/// A progress bar, and an end at the next step when Ctrl-C is pressed.
inline std::vector<diffmask::Callback> watched(const std::string& title,
                                               const diffmask::InterruptGuard& guard) {
  return {diffmask::progress_bar(title, stderr, 50), guard.callback()};
}

/// Throws Cancelled once Ctrl-C was pressed.
inline void check_interrupt() {
  if (diffmask::InterruptGuard::interrupted()) throw diffmask::Cancelled("interrupted");
}

/// What `run` returns, the program's status; an error is a line on stderr and 1, Cancelled is 130.
template <typename Run>
int reported(const std::string& program, const Run& run) {
  try {
    return run();
  } catch (const diffmask::Cancelled&) {
    return 130;
  } catch (const c10::Error& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what_without_backtrace());
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
  }
  return 1;
}
