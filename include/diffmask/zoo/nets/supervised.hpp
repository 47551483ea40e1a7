#pragma once
/// \file
/// Training of a model itself, before it is frozen: minimises the mean of loss(f(x), label) by
/// AdamW (Loshchilov and Hutter 2019) with clipped gradients. With S steps, W = ceil(warm_up S) of
/// them to warm up, the step size of step s = 0, ..., S - 1 rises and falls linearly:
///
///     rate (s + 1) / (W + 1)                                 s < W
///     rate (1 - (1 - final_rate) (s - W) / (S - W))          otherwise

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "diffmask/data/dataset.hpp"
#include "diffmask/train/callback.hpp"

namespace diffmask {

/// A scalar, the mean over the batch. Shape: labels (B).
using Loss = std::function<at::Tensor(const at::Tensor& output, const at::Tensor& labels)>;

struct SupervisedOptions {
  int64_t epochs = 10;        ///< >= 1
  int64_t batch_size = 64;    ///< >= 1
  double rate = 1e-3;         ///< largest step size, > 0
  double final_rate = 0.1;    ///< share of it at the end, in (0, 1]
  double warm_up = 0.0;       ///< share of the steps, in [0, 1); fine-tuning likes 0.1
  double weight_decay = 0.0;  ///< >= 0
  bool decay_vectors = true;  ///< whether biases and the gains of norms decay, too
  double clip_norm = 1.0;     ///< largest norm of all gradients together, > 0
  int64_t pool = 1;  ///< batches are cut from pools of this many, sorted by length: less padding
  /// What the epoch that is kept has least of, of all outputs and labels in validation, which are
  /// put one behind another; none: the mean loss.
  std::function<double(const at::Tensor& outputs, const at::Tensor& labels)> selection = {};
  uint64_t seed = 0;

  /// The step size of a step (from 0) of so many.
  double rate_of(int64_t step, int64_t steps) const;
  void validate() const;
};

struct SupervisedSummary {
  int64_t epoch = 0;  ///< whose parameters were kept: least `selection` in validation
  double loss = 0.0;  ///< its `selection` there
  double seconds = 0.0;
  bool interrupted = false;
};

/// f(x) of a batch's inputs.
using Forward = std::function<at::Tensor(const Inputs& inputs)>;

/// Trains `module` in training mode, and leaves it in evaluation mode with the parameters of the
/// epoch that was best on the validation data. Both data sets need labels.
SupervisedSummary train_supervised(torch::nn::Module& module, const Forward& forward,
                                   const Loss& loss, const Dataset& training,
                                   const Dataset& validation, const SupervisedOptions& options,
                                   const std::vector<Callback>& callbacks = {});

/// f(x) for a whole data set in its order, without a graph. Shape: (N, ...).
at::Tensor predict(const Forward& forward, const Dataset& data, int64_t batch_size = 256);

}  // namespace diffmask
