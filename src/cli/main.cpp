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
#include <exception>

#include "cli/attribute.hpp"
#include "cli/check.hpp"
#include "cli/compare.hpp"
#include "cli/model_file.hpp"
#include "cli/sites.hpp"
#include "diffmask/core/short_spin.hpp"

namespace {

// Debian's LibTorch takes any BLAS, and the reference one is some 70 times slower than OpenBLAS.
void warn_of_slow_blas() {
  constexpr double kSlow = 6e9;  // operations per second; 2.7e9 and 183e9 were measured
  const at::Tensor a = at::ones({256, 256});
  double best = INFINITY;
  for (int i = 0; i < 5; ++i) {
    best = std::min(best, diffmask::cli::seconds_of([&] { at::mm(a, a); }));
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
  CLI11_PARSE(app, argc, argv);
  try {
    at::set_num_threads(static_cast<int>(model.threads));
    warn_of_slow_blas();
    if (sites->parsed()) return cli::list_sites(model);
    if (checks->parsed()) return cli::check(model);
    if (explains->parsed()) return cli::run_attribute(model, attribute);
    return cli::run_compare(model, compare);
  } catch (const c10::Error& error) {
    fmt::print(stderr, "diffmask: {}\n", error.what_without_backtrace());
  } catch (const std::exception& error) {
    fmt::print(stderr, "diffmask: {}\n", error.what());
  }
  return 1;
}
