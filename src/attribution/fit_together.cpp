#include "diffmask/attribution/fit_together.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cstddef>
#include <future>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {

std::vector<Summary> fit_together(std::vector<DiffMask>& methods,
                                  const std::vector<TrainerOptions>& options,
                                  const Dataset& training, const Dataset& validation) {
  require(!methods.empty(), "methods", "at least one", "none");
  require(options.size() == methods.size(), "options",
          fmt::format("{}, one per method", methods.size()), options.size());
  const int threads = at::get_num_threads();
  const auto fit = [&](size_t i) {
    at::set_num_threads(threads);  // a thread begins with the machine's number
    return methods[i].fit(training, validation, options[i]);
  };
  std::vector<std::future<Summary>> others;  // a future waits for its thread when it is destroyed
  for (size_t i = 1; i < methods.size(); ++i) {
    others.push_back(std::async(std::launch::async, fit, i));
  }
  std::vector<Summary> summaries = {fit(0)};
  for (std::future<Summary>& other : others) summaries.push_back(other.get());
  return summaries;
}

}  // namespace diffmask
