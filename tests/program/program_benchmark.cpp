// Programs against LibTorch's own executor, on the encoder that tests/reference/encoder.py makes:
//
//   DIFFMASK_ENCODER=FOLDER program_benchmark --benchmark_repetitions=7 \
//     --benchmark_enable_random_interleaving --benchmark_report_aggregates_only
//
// Compare the medians of one run, on two threads: what counts are their ratios.
#include <benchmark/benchmark.h>
#include <torch/script.h>
#include <torch/torch.h>

#include <fstream>

#include "diffmask/format/safetensors.hpp"
#include "diffmask/program/exported.hpp"
#include "diffmask/program/script.hpp"

namespace diffmask {
namespace {

const char* folder() { return std::getenv("DIFFMASK_ENCODER"); }
std::string path(const std::string& ending) { return std::string(folder()) + "/encoder" + ending; }

Inputs inputs() {
  static const Safetensors file = load_safetensors(path(".safetensors"));
  return {file.at("input0"), file.at("input1")};
}

torch::jit::Module& module() {
  static torch::jit::Module loaded = torch::jit::load(path(".ts"));
  return loaded;
}

const Program& program(bool exported) {
  static const auto script = load_script(path(".ts")), graph = load_exported(path(".pt2"));
  return exported ? *graph : *script;
}

std::vector<std::string> layers(const Program& model) {
  return model.select("bert.encoder.layer.?");
}

void forward(benchmark::State& state) {
  const at::InferenceMode guard;
  const Inputs x = inputs();
  for (auto _ : state) module().forward({x[0], x[1]});
}

void plain_run(benchmark::State& state, bool exported) {
  const Program& model = program(exported);
  const Inputs x = inputs();
  for (auto _ : state) model.record(x, {layers(model).back()});
}

void record_layers(benchmark::State& state, bool exported) {
  const Program& model = program(exported);
  const Inputs x = inputs();
  for (auto _ : state) model.record(x, layers(model));
}

void resume_layer(benchmark::State& state, bool exported) {
  const Program& model = program(exported);
  const auto site = layers(model).at(static_cast<size_t>(state.range(0)));
  const Recording recording = model.record(inputs(), {site});
  const at::NoGradGuard no_grad;
  for (auto _ : state) model.resume(recording, site, recording.state(site));
}

// Forward and backward from a site on; the embeddings' output stands for the whole model.
void gradient(benchmark::State& state, bool exported) {
  const Program& model = program(exported);
  const std::string site = state.range(0) < 0
                               ? "bert.embeddings.LayerNorm"
                               : layers(model).at(static_cast<size_t>(state.range(0)));
  const Recording recording = model.record(inputs(), {site});
  for (auto _ : state) {
    const at::Tensor leaf = recording.state(site).clone().requires_grad_(true);
    torch::autograd::grad({model.resume(recording, site, leaf).sum()}, {leaf});
  }
}

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * 4096;
}

template <typename Load>
void load(benchmark::State& state, const Load& load) {
  for (auto _ : state) {
    const int64_t before = resident_bytes();
    const auto loaded = load();
    state.counters["MB"] = static_cast<double>(resident_bytes() - before) / 1e6;
  }
}

void register_all() {
  const auto add = [](const std::string& name, auto function, auto... arguments) {
    return benchmark::RegisterBenchmark(name.c_str(), function, arguments...)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  };
  add("Module::forward", forward);
  for (const bool exported : {false, true}) {
    const std::string kind = exported ? " (pt2)" : " (script)";
    add("plain run" + kind, plain_run, exported);
    add("record all layers" + kind, record_layers, exported);
    add("resume" + kind, resume_layer, exported)->Arg(2);
    add("forward+backward" + kind, gradient, exported)->Arg(-1)->Arg(4);
  }
  using State = benchmark::State;
  add("jit::load", [](State& s) { load(s, [] { return torch::jit::load(path(".ts")); }); });
  add("load_script", [](State& s) { load(s, [] { return load_script(path(".ts")); }); });
  add("load_exported", [](State& s) { load(s, [] { return load_exported(path(".pt2")); }); });
}

}  // namespace
}  // namespace diffmask

int main(int argc, char** argv) {
  if (!diffmask::folder()) {
    fmt::print(stderr,
               "DIFFMASK_ENCODER has to be a folder that tests/reference/encoder.py made\n");
    return 1;
  }
  at::set_num_threads(2);
  benchmark::Initialize(&argc, argv);
  diffmask::register_all();
  benchmark::RunSpecifiedBenchmarks();
}
