// Attribution methods on the models that tests/reference/encoder.py makes, 16 x 32 tokens, beside
// tests/reference/captum_times.py, which times Captum on the same: "program" is a traced encoder
// whose states' mean is explained, "native" a classifier in zoo/nets/bert.hpp.
//
//   DIFFMASK_ENCODER=FOLDER attribution_benchmark --benchmark_repetitions=3
//     --benchmark_report_aggregates_only
//
// Compare medians of runs that alternate: what counts are ratios. "plain" is what 4096 rows cost
// the model itself, to hold beside "subsets".
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/attribution/gradient/integrated_gradients.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/program/exported.hpp"
#include "diffmask/zoo/nets/bert.hpp"

namespace diffmask {
namespace {

constexpr int64_t kExamples = 16, kSubsets = 4096, kUnits = 12, kSteps = 50;

std::string path(const std::string& ending) {
  return std::string(std::getenv("DIFFMASK_ENCODER")) + "/encoder" + ending;
}

const std::shared_ptr<Program>& program() {
  static const auto loaded = load_program(path(".ts"));
  return loaded;
}

Batch batch() {
  static const Safetensors file = load_safetensors(path(".safetensors"));
  const at::Tensor ids = file.at("input0").narrow(0, 0, kExamples);
  return {{ids, file.at("input1").narrow(0, 0, kExamples)}, ids.ge(0), {}, {}};
}

// A model, what its mask is of, the sites that are explained, and the number that is.
struct Subject {
  std::string name;
  std::shared_ptr<const FrozenModel> model;
  at::ScalarType mask;
  std::string embeddings, layer4;
  Target target;

  Batch texts() const {
    Batch texts = batch();
    texts.inputs[1] = texts.inputs[1].to(mask);
    return texts;
  }
};

// The program's number: the first feature of the states' mean.
at::Tensor first_of_mean(const at::Tensor& y, const at::Tensor&) { return y.mean(1).select(1, 0); }

std::vector<Subject> subjects() {
  const auto classifier = load_bert(std::getenv("DIFFMASK_ENCODER") + std::string("/classifier"),
                                    {.kind = BertHead::Kind::classification, .classes = 2});
  return {
      {"program", program(), at::kLong, "bert.embeddings", "bert.encoder.layer.4", first_of_mean},
      {"native", staged(classifier), at::kBool, "embeddings", "layer.4",
       [](const at::Tensor& y, const at::Tensor&) { return y.select(1, 0); }}};
}

// One text, whose first positions are searched.
Batch one_text() {
  Batch text = batch();
  for (at::Tensor& input : text.inputs) input = input.narrow(0, 0, 1);
  text.mask = at::arange(32).lt(kUnits).unsqueeze(0);
  return text;
}

void integrated_gradients(benchmark::State& state, const Subject& subject,
                          const std::string& site) {
  const IntegratedGradients method(subject.model, {.sites = {site}, .target = subject.target},
                                   {.steps = kSteps, .tolerance = 0});
  for (auto _ : state) method.attribute(subject.texts());
}

void leave_one_out(benchmark::State& state, const Subject& subject, const std::string& site) {
  const LeaveOneOut method(subject.model, {.sites = {site}, .target = subject.target});
  for (auto _ : state) method.attribute(subject.texts());
}

// A decision that only the whole text keeps, so that every subset is tried.
void subsets(benchmark::State& state, const std::string& site) {
  const Criterion all_but_never = [](const at::Tensor& y, const at::Tensor& y0) {
    return (y - y0).abs().amax({1, 2}).lt(0);
  };
  const ExactSearch method(program(), {.sites = {site}, .target = first_of_mean},
                           {.criterion = all_but_never});
  for (auto _ : state) method.attribute(one_text());
}

void plain(benchmark::State& state) {
  const Inputs text = one_text().inputs;
  const Inputs rows = {text[0].repeat({64, 1}), text[1].repeat({64, 1})};
  for (auto _ : state) {
    for (int64_t row = 0; row < kSubsets; row += 64) program()->record(rows, {"bert.embeddings"});
  }
}

void register_all() {
  const auto add = [](const std::string& name, auto function, auto... arguments) {
    return benchmark::RegisterBenchmark(name.c_str(), function, arguments...)
        ->Unit(benchmark::kSecond)
        ->Iterations(1)
        ->UseRealTime();
  };
  for (const Subject& subject : subjects()) {
    for (const auto& [name, site] :
         {std::pair{"embeddings", subject.embeddings}, std::pair{"layer 4", subject.layer4}}) {
      const auto title = [&](const char* method) {
        return fmt::format("{}, {}, {}", subject.name, method, name);
      };
      add(title("integrated gradients"), integrated_gradients, subject, site);
      add(title("leave-one-out"), leave_one_out, subject, site);
    }
  }
  add("4096 subsets, embeddings", subsets, std::string("bert.embeddings"));
  add("4096 plain rows", plain);
}

}  // namespace
}  // namespace diffmask

int main(int argc, char** argv) {
  if (!std::getenv("DIFFMASK_ENCODER")) {
    fmt::print(stderr,
               "DIFFMASK_ENCODER has to be a folder that tests/reference/encoder.py made\n");
    return 1;
  }
  at::set_num_threads(2);
  benchmark::Initialize(&argc, argv);
  diffmask::register_all();
  benchmark::RunSpecifiedBenchmarks();
}
