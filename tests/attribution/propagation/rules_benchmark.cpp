// DeepLIFT and LRP on the encoder that tests/reference/rules_speed.py makes; that script prints
// Captum's time, to be compared with the median of one run beside it, on two threads:
//
//   DIFFMASK_RULES_SPEED=FOLDER rules_benchmark --benchmark_repetitions=7
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/program/script.hpp"

namespace diffmask {
namespace {

std::string path(const std::string& name) {
  return std::string(std::getenv("DIFFMASK_RULES_SPEED")) + "/" + name;
}

template <typename Method>
void explain(benchmark::State& state) {
  const auto model = load_script(path("encoder.ts"), {.module_inputs = true});
  const at::Tensor x = load_safetensors(path("encoder.safetensors")).at("input0");
  const Batch batch{{x}, at::ones({x.size(0), x.size(1)}, at::kBool), at::arange(x.size(0)), {}};
  const Method method(model, {.sites = {model->site_names().front()}});
  for (auto _ : state) method.attribute(batch);
}

BENCHMARK(explain<DeepLift>)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(explain<Lrp>)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace diffmask

int main(int argc, char** argv) {
  if (!std::getenv("DIFFMASK_RULES_SPEED")) {
    fmt::print(
        stderr,
        "DIFFMASK_RULES_SPEED has to be a folder that tests/reference/rules_speed.py made\n");
    return 1;
  }
  at::set_num_threads(2);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
