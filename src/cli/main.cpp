// The program `diffmask`: what the library does, for models in files.
//
//   diffmask sites MODEL                    the hidden states that can be recorded and replaced
//   diffmask check MODEL --inputs FILE      whether resuming gives what the model gives
//   diffmask attribute MODEL --method NAME --inputs FILE --out FILE    what the output rests on
//   diffmask compare MODEL --inputs FILE    methods by all metrics
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <exception>

#include "cli/attribute.hpp"
#include "cli/check.hpp"
#include "cli/compare.hpp"
#include "cli/model_file.hpp"
#include "cli/sites.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/short_spin.hpp"
#include "diffmask/version.hpp"

namespace {

enum ExitCode { kDone = 0, kFailed = 1, kBadArguments = 2 };

constexpr const char* kExitCodes =
    "Exit codes: 0 if it was done, 1 if it failed (a file that cannot be read or written, a model\n"
    "or an output that cannot be explained), 2 for arguments that are wrong: unknown, missing, or\n"
    "not fitting the model or the inputs.";

// The time that this thread has computed: what others compute on the same core does not count.
double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Debian's LibTorch takes any BLAS, and the reference one is some 70 times slower than OpenBLAS.
// Called while there is one thread.
void warn_of_slow_blas() {
  constexpr double kSlow = 6e9;  // operations per second; 2.7e9 and 183e9 were measured
  const at::Tensor a = at::ones({256, 256});
  double best = INFINITY;
  for (int i = 0; i < 5; ++i) {
    const double began = processor_seconds();
    at::mm(a, a);
    best = std::min(best, processor_seconds() - began);
  }
  if (2.0 * 256 * 256 * 256 / best > kSlow) return;
  fmt::print(stderr,
             "diffmask: LibTorch multiplies matrices slowly here ({:.1f} GFLOP/s). On Debian, "
             "install libopenblas0-pthread.\n",
             2e-9 * 256 * 256 * 256 / best);
}

}  // namespace

int main(int argc, char** argv) {
  namespace cli = diffmask::cli;
  CLI::App app("DiffMask: which inputs and hidden states a network's decision needs");
  app.require_subcommand(1);
  app.footer(kExitCodes);
  app.set_version_flag("--version", diffmask::version());
  cli::ModelOptions model;
  cli::AttributeOptions attribute;
  cli::CompareOptions compare;
  CLI::App* sites = app.add_subcommand("sites", "List the hidden states that can be tapped");
  cli::add_sites(*sites, model);
  CLI::App* checks = app.add_subcommand("check", "Compare resumed outputs with the model's own");
  cli::add_check(*checks, model);
  CLI::App* explains = app.add_subcommand("attribute", "Explain an output at chosen sites");
  cli::add_attribute(*explains, model, attribute);
  CLI::App* compares = app.add_subcommand("compare", "Measure methods at chosen sites");
  cli::add_compare(*compares, model, compare);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kBadArguments;
  }
  try {
    at::set_num_threads(1);
    warn_of_slow_blas();
    at::set_num_threads(static_cast<int>(model.threads));
    if (sites->parsed()) return cli::list_sites(model);
    if (checks->parsed()) return cli::check(model);
    if (explains->parsed()) return cli::run_attribute(model, attribute);
    return cli::run_compare(model, compare);
  } catch (const diffmask::ArgumentError& error) {
    fmt::print(stderr, "diffmask: {}\n", error.what());
    return kBadArguments;
  } catch (const c10::Error& error) {
    fmt::print(stderr, "diffmask: {}\n", error.what_without_backtrace());
  } catch (const std::exception& error) {
    fmt::print(stderr, "diffmask: {}\n", error.what());
  }
  return kFailed;
}
