#pragma once
/// \file
/// Training of a model itself, before it is frozen and explained: minimises the mean of
/// loss(f(x), label) by AdamW (Loshchilov and Hutter 2019) with clipped gradients. Of S steps the
/// first W = ceil(warm_up S) warm up; the step size of step s = 0, ..., S - 1 rises and falls
/// linearly:
///
///     rate (s + 1) / (W + 1)                                 s < W
///     rate (1 - (1 - final_rate) (s - W) / (S - W))          otherwise
///
///     const auto forward = [net](const Inputs& x) { return net->forward(x[0], x[1]); };
///     train_supervised(*net, forward, cross_entropy, training, validation, {.epochs = 5});
///     const at::Tensor logits = predict(*net, forward, held_out);
///
/// Batches are moved to the device of the module's parameters.

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "diffmask/data/dataset.hpp"
#include "diffmask/train/callback.hpp"

namespace diffmask {

/// A scalar, the mean over the batch. Shape: labels (B, ...), as the data set has them.
using SupervisedLoss =
    std::function<at::Tensor(const at::Tensor& output, const at::Tensor& labels)>;

/// The usual loss of classes: -log softmax(y)[label]. Shape: output (B, C), labels (B) int64.
at::Tensor cross_entropy(const at::Tensor& output, const at::Tensor& labels);

struct SupervisedOptions {
  int64_t epochs = 10;        ///< >= 1
  int64_t batch_size = 64;    ///< >= 1
  double rate = 1e-3;         ///< largest step size, > 0
  double final_rate = 0.1;    ///< step size at the end, as a share of `rate`, in (0, 1]
  double warm_up = 0.0;       ///< share of the steps, in [0, 1); 0.1 suits fine-tuning
  double weight_decay = 0.0;  ///< >= 0
  bool decay_vectors = true;  ///< whether biases and the gains of norms decay too
  double clip_norm = 1.0;     ///< largest norm of all gradients together, > 0
  int64_t pool = 1;  ///< batches are cut from pools of this many batches, sorted by length: less
                     ///< padding; >= 1
  /// The epoch with the smallest value is kept. Given all outputs and labels of the validation
  /// data, concatenated; if empty, the mean loss.
  std::function<double(const at::Tensor& outputs, const at::Tensor& labels)> selection = {};
  uint64_t seed = 0;  ///< decides the order of the examples

  /// The step size of step `step` (from 0) of `steps`.
  double rate_of(int64_t step, int64_t steps) const;
  void validate() const;
};

struct SupervisedSummary {
  int64_t epoch = 0;  ///< from 1: the epoch whose parameters were kept, by `selection`
  double loss = 0.0;  ///< its `selection` on the validation data
  double seconds = 0.0;
  bool interrupted = false;  ///< whether a callback stopped it
};

/// f(x) of a batch's inputs, by a module.
using ModuleForward = std::function<at::Tensor(const Inputs& inputs)>;

/// Trains `module` in training mode and leaves it in evaluation mode, with the parameters of the
/// epoch that was best on the validation data. Both data sets need labels. Error if the validation
/// loss is not finite.
SupervisedSummary train_supervised(torch::nn::Module& module, const ModuleForward& forward,
                                   const SupervisedLoss& loss, const Dataset& training,
                                   const Dataset& validation, const SupervisedOptions& options,
                                   const std::vector<Callback>& callbacks = {});

/// As `train_supervised`, once: the weights in `file` (zoo/nets/weights.hpp), if that exists, with a
/// summary of epoch 0; else trained ones, which are written there unless a callback stopped the
/// training. With an empty name they are trained and not written.
SupervisedSummary trained_or_loaded(const std::string& file, torch::nn::Module& module,
                                    const ModuleForward& forward, const SupervisedLoss& loss,
                                    const Dataset& training, const Dataset& validation,
                                    const SupervisedOptions& options,
                                    const std::vector<Callback>& callbacks = {});

/// f(x) of a whole data set in its order, without a graph, on the module's device; the module's
/// mode stays as it is. Shape: (N, ...).
at::Tensor predict(const torch::nn::Module& module, const ModuleForward& forward,
                   const Dataset& data, int64_t batch_size = 256);

}  // namespace diffmask
