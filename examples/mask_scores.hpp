// What the examples print and write of a mask's scores.
#pragma once
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "diffmask/metrics/mask_score.hpp"

inline nlohmann::json to_json(const diffmask::MaskScore& s) {
  return {{"accuracy", s.accuracy},
          {"macro_f1", s.macro_f1},
          {"masked_share", s.masked_share},
          {"divergence", s.divergence},
          {"within_epsilon", s.within_epsilon}};
}

/// The head of a table with a line a print().
inline void print_head(const std::string& data) {
  fmt::print("\n  {:<24} {:>8}  {:>8}  {:>7}  {:>8}  {:>8}\n", data, "accuracy", "macro-F1",
             "masked", "D", "D<=eps");
}

inline void print(const std::string& name, const diffmask::MaskScore& s) {
  fmt::print("  {:<24} {:>7.1f}%  {:>8.3f}  {:>6.1f}%  {:>8.4f}  {:>7.1f}%\n", name,
             100 * s.accuracy, s.macro_f1, 100 * s.masked_share, s.divergence,
             100 * s.within_epsilon);
  std::fflush(stdout);
}
