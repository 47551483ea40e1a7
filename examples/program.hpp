// What the main functions of the examples have in common.
#pragma once
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>

/// As many as asked for; 0: one a core.
inline void use_threads(int64_t threads) {
  const int cores = static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
  at::set_num_threads(threads > 0 ? static_cast<int>(threads) : cores);
}

/// What `run` returns, the program's status; an error is a line on stderr and 1.
template <typename Run>
int reported(const std::string& program, const Run& run) {
  try {
    return run();
  } catch (const c10::Error& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what_without_backtrace());
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
  }
  return 1;
}
