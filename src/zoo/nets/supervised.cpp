#include "diffmask/zoo/nets/supervised.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/nn/module.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/libtorch.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/zoo/nets/weights.hpp"

namespace diffmask {
namespace {

// Where a module's batches have to be; the CPU if it has no parameters.
c10::Device device_of(const torch::nn::Module& module) {
  const auto parameters = module.parameters();
  return parameters.empty() ? c10::Device(c10::kCPU) : parameters.front().device();
}

// An epoch's batches: shuffled, sorted by length within pools of batches, shuffled again.
std::vector<std::vector<int64_t>> epoch_batches(const Dataset& data,
                                                const SupervisedOptions& options,
                                                const at::Generator& generator) {
  std::vector<std::vector<int64_t>> batches;
  const auto order = shuffled(data.size(), generator);
  for (auto& pool : batches_of(order, options.batch_size * options.pool)) {
    std::stable_sort(pool.begin(), pool.end(),
                     [&](int64_t a, int64_t b) { return data.length(a) < data.length(b); });
    for (auto& batch : batches_of(pool, options.batch_size)) batches.push_back(std::move(batch));
  }
  std::vector<std::vector<int64_t>> mixed;
  for (const int64_t i : shuffled(static_cast<int64_t>(batches.size()), generator)) {
    mixed.push_back(std::move(batches[static_cast<size_t>(i)]));
  }
  return mixed;
}

// Parameters that decay in the first group, those that do not in the second.
std::vector<torch::optim::OptimizerParamGroup> groups_of(const std::vector<at::Tensor>& parameters,
                                                         const SupervisedOptions& options) {
  using torch::optim::AdamWOptions;
  std::vector<at::Tensor> decaying, others;
  for (const at::Tensor& parameter : parameters) {
    (options.decay_vectors || parameter.dim() >= 2 ? decaying : others).push_back(parameter);
  }
  const AdamWOptions first = AdamWOptions(options.rate).weight_decay(options.weight_decay);
  const AdamWOptions second = AdamWOptions(options.rate).weight_decay(0);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(decaying, std::make_unique<AdamWOptions>(first));
  groups.emplace_back(others, std::make_unique<AdamWOptions>(second));
  return groups;
}

// The same as optimiser.step(). That one passes over all parameters once per operation, LibTorch's
// fused operator, which CPUs have since 2.4, once in all.
void adamw_step(torch::optim::AdamW& optimiser) {
#if DIFFMASK_TORCH_AT_LEAST(2, 4)
  at::NoGradGuard no_grad;
  for (auto& group : optimiser.param_groups()) {
    const auto& options = static_cast<torch::optim::AdamWOptions&>(group.options());
    std::vector<at::Tensor> parameters, gradients, means, squares, steps;
    for (const at::Tensor& parameter : group.params()) {
      if (!parameter.grad().defined()) continue;
      auto& slot = optimiser.state()[parameter.unsafeGetTensorImpl()];
      if (!slot) {
        auto zeros = std::make_unique<torch::optim::AdamWParamState>();
        zeros->exp_avg(at::zeros_like(parameter));
        zeros->exp_avg_sq(at::zeros_like(parameter));
        slot = std::move(zeros);
      }
      auto& state = static_cast<torch::optim::AdamWParamState&>(*slot);
      state.step(state.step() + 1);
      parameters.push_back(parameter);
      gradients.push_back(parameter.grad());
      means.push_back(state.exp_avg());
      squares.push_back(state.exp_avg_sq());
      steps.push_back(at::full({}, state.step(), parameter.options().dtype(at::kFloat)));
    }
    const auto& [beta1, beta2] = options.betas();
    if (parameters.empty()) continue;
    at::_fused_adamw_(parameters, gradients, means, squares, {}, steps, options.lr(), beta1, beta2,
                      options.weight_decay(), options.eps(), /*amsgrad=*/false, /*maximize=*/false);
  }
#else
  optimiser.step();
#endif
}

// The options' selection, or the mean loss.
double validate(const ModuleForward& forward, const SupervisedLoss& loss, const Dataset& data,
                c10::Device device, const SupervisedOptions& options) {
  at::NoGradGuard no_grad;
  double sum = 0.0;
  std::vector<at::Tensor> outputs, labels;
  for (const auto& examples : length_batches(data, 256)) {
    const Batch batch = data.batch(examples).to(device);
    const at::Tensor output = forward(batch.inputs);
    if (options.selection) {
      outputs.push_back(output);
      labels.push_back(batch.labels);
    } else {
      sum += static_cast<double>(batch.size()) * loss(output, batch.labels).item<double>();
    }
  }
  if (options.selection) return options.selection(at::cat(outputs), at::cat(labels));
  return sum / static_cast<double>(data.size());
}

}  // namespace

double SupervisedOptions::rate_of(int64_t step, int64_t steps) const {
  const auto rising = static_cast<int64_t>(std::ceil(warm_up * static_cast<double>(steps)));
  if (step < rising) return rate * static_cast<double>(step + 1) / static_cast<double>(rising + 1);
  const double done = static_cast<double>(step - rising) / static_cast<double>(steps - rising);
  return rate * (1 - (1 - final_rate) * done);
}

void SupervisedOptions::validate() const {
  require(epochs >= 1, "epochs", ">= 1", epochs);
  require(batch_size >= 1, "batch_size", ">= 1", batch_size);
  require(std::isfinite(rate) && rate > 0, "rate", "> 0", rate);
  require(final_rate > 0 && final_rate <= 1, "final_rate", "in (0, 1]", final_rate);
  require(warm_up >= 0 && warm_up < 1, "warm_up", "in [0, 1)", warm_up);
  require(std::isfinite(weight_decay) && weight_decay >= 0, "weight_decay", ">= 0", weight_decay);
  require(std::isfinite(clip_norm) && clip_norm > 0, "clip_norm", "> 0", clip_norm);
  require(pool >= 1, "pool", ">= 1", pool);
}

SupervisedSummary train_supervised(torch::nn::Module& module, const ModuleForward& forward,
                                   const SupervisedLoss& loss, const Dataset& training,
                                   const Dataset& validation, const SupervisedOptions& options,
                                   const std::vector<Callback>& callbacks) {
  options.validate();
  const auto began = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  };
  const auto parameters = module.parameters();
  const c10::Device device = device_of(module);
  const at::Generator order = make_generator(options.seed);
  torch::optim::AdamW optimiser(groups_of(parameters, options));
  const int64_t batches = (training.size() + options.batch_size - 1) / options.batch_size;
  const int64_t steps = options.epochs * batches;

  SupervisedSummary best{0, INFINITY};
  // Buffers too: running statistics belong to the epoch that is kept.
  std::vector<at::Tensor> kept = parameters, best_values;
  for (const at::Tensor& buffer : module.buffers()) kept.push_back(buffer);
  int64_t step = 0;
  for (int64_t epoch = 1; epoch <= options.epochs && !best.interrupted; ++epoch) {
    module.train();
    for (const auto& examples : epoch_batches(training, options, order)) {
      const double rate = options.rate_of(step++, steps);
      for (auto& group : optimiser.param_groups()) group.options().set_lr(rate);
      const Batch batch = training.batch(examples).to(device);
      optimiser.zero_grad();
      loss(forward(batch.inputs), batch.labels).backward();
      torch::nn::utils::clip_grad_norm_(parameters, options.clip_norm);
      adamw_step(optimiser);
      for (const Callback& callback : callbacks) {
        const Progress progress{Progress::Phase::train, step, steps, seconds()};
        best.interrupted |= callback(progress) == Action::stop;
      }
      if (best.interrupted) break;
    }
    module.eval();
    const double now = validate(forward, loss, validation, device, options);
    if (!std::isfinite(now))
      throw Error(fmt::format("the validation loss of epoch {} is {}", epoch, now));
    if (now >= best.loss) continue;
    best.epoch = epoch;
    best.loss = now;
    best_values.clear();
    for (const at::Tensor& tensor : kept) best_values.push_back(tensor.detach().clone());
  }
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < kept.size(); ++i) {
    kept[i].copy_(best_values[i]);
    kept[i].mutable_grad() = at::Tensor();
  }
  best.seconds = seconds();
  return best;
}

SupervisedSummary trained_or_loaded(const std::string& file, torch::nn::Module& module,
                                    const ModuleForward& forward, const SupervisedLoss& loss,
                                    const Dataset& training, const Dataset& validation,
                                    const SupervisedOptions& options,
                                    const std::vector<Callback>& callbacks) {
  if (!file.empty() && std::filesystem::exists(file)) {
    load_weights(module, file);
    module.eval();
    return {};
  }
  SupervisedSummary summary =
      train_supervised(module, forward, loss, training, validation, options, callbacks);
  if (!file.empty() && !summary.interrupted) save_weights(module, file);
  return summary;
}

at::Tensor cross_entropy(const at::Tensor& output, const at::Tensor& labels) {
  return at::cross_entropy_loss(output, labels);
}

at::Tensor predict(const torch::nn::Module& module, const ModuleForward& forward,
                   const Dataset& data, int64_t batch_size) {
  at::NoGradGuard no_grad;
  const c10::Device device = device_of(module);
  std::vector<at::Tensor> outputs, numbers;
  for (const auto& examples : length_batches(data, batch_size)) {
    const Batch batch = data.batch(examples).to(device);
    outputs.push_back(forward(batch.inputs));
    numbers.push_back(batch.examples);
  }
  const at::Tensor output = at::cat(outputs);
  return at::empty_like(output).index_copy_(0, at::cat(numbers), output);
}

}  // namespace diffmask
