// One training step and some attributions of a BERT of 6 layers, 16 texts of 64 words, on the
// processor and on the device that DIFFMASK_DEVICE names. tests/gpu/run prints them side by side.
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "tests/test_device.hpp"

namespace diffmask {
namespace {

constexpr int64_t kTexts = 16, kWords = 64, kVocabulary = 1000, kSteps = 5;
constexpr BertHead kTwoClasses{.kind = BertHead::Kind::classification, .classes = 2};

std::shared_ptr<const FrozenModel> model(c10::Device device) {
  const BertConfig config{.vocabulary = kVocabulary,
                          .hidden_size = 384,
                          .layers = 6,
                          .heads = 12,
                          .intermediate_size = 1536,
                          .positions = kWords};
  auto net = std::make_shared<Bert>(config, kTwoClasses, make_generator(1));
  net->eval();
  net->to(device);
  return staged(net);
}

PaddedDataset texts() {
  const at::Tensor ids = at::randint(kVocabulary, {kTexts, kWords}, make_generator(2), at::kLong);
  const at::Tensor mask = at::ones({kTexts, kWords}, at::kBool);
  return PaddedDataset({{ids, true}, {mask, true}}, at::full({kTexts}, kWords, at::kLong),
                       at::Tensor(), false);
}

// The time of kSteps training steps, without that of what begins and ends a run: the difference of
// a run of kSteps + 1 and a run of one.
void training_step(benchmark::State& state, c10::Device device) {
  const auto explained = model(device);
  const PaddedDataset data = texts();
  const auto seconds = [&](int64_t steps) {
    TrainerOptions options{.steps = steps};
    options.batches.batch_size = kTexts;
    options.recipe.validate_every = 1000;
    DiffMask method(explained);
    const auto began = std::chrono::steady_clock::now();
    method.fit(data, data, options);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  };
  seconds(1);  // warms up
  for (auto _ : state) {
    const double one = seconds(1);
    state.SetIterationTime((seconds(kSteps + 1) - one) / kSteps);
  }
}

void attribution(benchmark::State& state, c10::Device device, const std::string& name) {
  const auto explains = method(name).make(model(device), {.sites = {"layer.2"}}, {.steps = 5});
  const PaddedDataset data = texts();
  const Batch batch = data.batch(iota(kTexts));
  explains->attribute(batch);                                    // warms up
  for (auto _ : state) explains->attribute(batch).scores.cpu();  // waits for the device
}

void register_all() {
  std::vector<c10::Device> devices = {c10::kCPU};
  if (!test_device().is_cpu()) devices.push_back(test_device());
  for (const c10::Device device : devices) {
    const auto add = [&](const std::string& name, auto function, auto... arguments) {
      return benchmark::RegisterBenchmark((name + ", " + device.str()).c_str(), function, device,
                                          arguments...)
          ->Unit(benchmark::kMillisecond)
          ->Iterations(1)
          ->Repetitions(3)
          ->ReportAggregatesOnly();
    };
    add("one training step", training_step)->UseManualTime();
    for (const char* name : {"integrated_gradients", "deeplift", "lrp", "leave_one_out"}) {
      add(name, attribution, std::string(name))->UseRealTime();
    }
  }
}

}  // namespace
}  // namespace diffmask

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  at::set_num_threads(std::min<int>(16, static_cast<int>(std::thread::hardware_concurrency())));
  diffmask::register_all();
  benchmark::RunSpecifiedBenchmarks();
}
