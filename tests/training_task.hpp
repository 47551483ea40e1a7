#pragma once
/// \file
/// A model and data so small that training an explainer takes milliseconds.

#include <torch/torch.h>

#include <memory>

#include "diffmask/core/random.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/model/staged.hpp"
#include "diffmask/train/trainer.hpp"

namespace diffmask {

/// Sequences of 1 to 5 positions of 3 numbers; sites "low" (B, T, 4) and "high" (B, T, 4), two
/// classes. Weights are large enough that masking everything costs far more than 0.05 nats.
struct TrainingTask {
  torch::nn::Sequential net{nullptr};
  std::shared_ptr<StagedModel> model;
  std::shared_ptr<PaddedDataset> training, validation;
  std::shared_ptr<int64_t> runs = std::make_shared<int64_t>(0);  ///< original passes of the model
};

inline std::shared_ptr<PaddedDataset> training_data(int64_t size, uint64_t seed) {
  const at::Generator generator = make_generator(seed);
  const at::Tensor values = at::randn({size, 5, 3}, generator);
  const at::Tensor lengths = at::randint(1, 6, {size}, generator, at::TensorOptions(at::kLong));
  return std::make_shared<PaddedDataset>(
      std::vector<PaddedDataset::Column>{{values, /*is_sequence=*/true}}, lengths,
      values.select(1, 0).sum(1).gt(0).to(at::kLong));
}

inline TrainingTask training_task(uint64_t seed = 3, c10::Device device = c10::kCPU) {
  using torch::nn::LinearImpl;
  TrainingTask task;
  task.net = torch::nn::Sequential(torch::nn::Linear(3, 4), torch::nn::Linear(4, 4),
                                   torch::nn::Linear(4, 2));
  const at::Generator generator = make_generator(seed);
  {
    at::NoGradGuard no_grad;
    for (at::Tensor& parameter : task.net->parameters()) parameter.normal_(0.0, 1.0, generator);
  }
  task.net->eval();
  task.net->to(device);
  const auto linear = [net = task.net](size_t i) { return net->ptr<LinearImpl>(i); };
  task.model = std::make_shared<StagedModel>(
      task.net.ptr(),
      std::vector<Stage>{{"low",
                          [=, runs = task.runs](const at::Tensor& x, const Inputs&) {
                            ++*runs;
                            return at::tanh(linear(0)->forward(x));
                          }},
                         {"high", [=](const at::Tensor& h,
                                      const Inputs&) { return at::tanh(linear(1)->forward(h)); }},
                         {"head", [=](const at::Tensor& h, const Inputs& x) {
                            return linear(2)->forward((h * x[1].unsqueeze(-1)).sum(1));
                          }}});
  task.training = training_data(48, 1);
  task.validation = training_data(20, 2);
  return task;
}

/// Some steps of training, quick ones.
inline TrainerOptions training_options(int64_t steps = 20, uint64_t seed = 0) {
  TrainerOptions options;
  options.epsilon = 0.05;
  options.steps = steps;
  options.recipe.warm_up = 5;
  options.batches.batch_size = 16;
  options.recipe.validate_every = 5;
  options.recipe.gate_rate = 0.05;
  options.seed = seed;
  return options;
}

/// An untrained explainer of the task's model.
inline std::shared_ptr<Explainer> make_explainer(const TrainingTask& task,
                                                 ExplainerOptions options = {}, uint64_t seed = 7) {
  const Batch batch = task.training->batch(iota(task.training->size()));
  return std::make_shared<Explainer>(*task.model, options, task.model->record(batch.inputs), batch,
                                     Capacity{task.training->size(), task.training->longest()},
                                     make_generator(seed));
}

/// All parameters by name, copied.
inline std::map<std::string, at::Tensor> parameters_of(const torch::nn::Module& module) {
  std::map<std::string, at::Tensor> all;
  for (const auto& item : module.named_parameters()) {
    all.emplace(item.key(), item.value().detach().clone());
  }
  return all;
}

/// Whether all tensors are the same bits.
inline bool same_bits(const std::map<std::string, at::Tensor>& a,
                      const std::map<std::string, at::Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.equal(y.second);
  });
}

/// Images (B, 1, 4, 4) of four patches of 2 x 2 cells.
class ImageData : public Dataset {
 public:
  ImageData(int64_t size, uint64_t seed)
      : images_(at::randn({size, 1, 4, 4}, make_generator(seed))) {}
  int64_t size() const override { return images_.size(0); }
  int64_t length(int64_t) const override { return 4; }
  Batch batch(const std::vector<int64_t>& examples) const override {
    const at::Tensor numbers = at::tensor(examples, at::kLong);
    return {{images_.index_select(0, numbers)},
            at::ones({numbers.size(0), 4}, at::kBool),
            numbers,
            at::Tensor()};
  }

 private:
  at::Tensor images_;
};

/// A convolution, "0" and "1" (B, 3, 4, 4), and two classes.
inline std::shared_ptr<StagedModel> image_model(c10::Device device = c10::kCPU) {
  torch::nn::Sequential net(torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 3, 3).padding(1)),
                            torch::nn::ReLU(), torch::nn::Flatten(), torch::nn::Linear(48, 2));
  at::NoGradGuard no_grad;
  for (at::Tensor& parameter : net->parameters()) {
    parameter.normal_(0.0, 0.5, make_generator(static_cast<uint64_t>(parameter.numel())));
  }
  net->eval();
  net->to(device);
  return StagedModel::from(net.ptr());
}

inline ExplainerOptions image_options() {
  return {.sites = {"0", "1"}, .positions = {{Positions::Layout::image, 2}}};
}

}  // namespace diffmask
