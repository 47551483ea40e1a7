#pragma once
/// \file
/// The counting task (zoo/data/counting.hpp) with a net that solves it: made and fitted here, or
/// read from files.
///
///     const CountingFit task = fit_counting(/*seed=*/0);
///     DiffMask method(staged(task.net), counting_explainer(Masking::hidden));
///     method.fit(task.training.dataset(), counting_training(/*seed=*/0));

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/methods.hpp"
#include "diffmask/mask/explainer_options.hpp"
#include "diffmask/metrics/subject.hpp"
#include "diffmask/train/callback.hpp"
#include "diffmask/train/trainer.hpp"
#include "diffmask/zoo/data/counting.hpp"
#include "diffmask/zoo/nets/counting_net.hpp"
#include "diffmask/zoo/nets/supervised.hpp"

namespace diffmask {

struct CountingFit {
  CountingData training, validation;
  std::shared_ptr<CountingNet> net;  ///< in evaluation mode

  /// The net's share of right answers on the validation data.
  double accuracy() const;

  /// For a comparison of methods: the validation data are explained, what learns does so from the
  /// training data, and the seed draws the randomised net.
  Subject subject(uint64_t seed) const;
};

/// The net of inputs digits, queries and mask, as train_supervised takes it.
ModuleForward forward_of(std::shared_ptr<const CountingNet> net);

/// -log p of the label by the logistic function, the mean over examples. Shape: logits, labels (B).
at::Tensor counting_loss(const at::Tensor& logits, const at::Tensor& labels);

struct CountingFitOptions {
  int64_t training = 9000, validation = 1000;  ///< examples drawn, >= 1
  int64_t epochs = 30;                         ///< >= 1
};

/// Probes that begin open, at a logit of 4.
ExplainerOptions counting_explainer(Masking masking);

/// Batches of 128, epsilon 0.05, D of the logistic output (divergence::bernoulli), recipe::counting.
TrainerOptions counting_training(uint64_t seed, int64_t steps = 2000);

/// The settings that suit the task, for any method of the list and for others: D as in
/// counting_training, few draws, since some thousand rows are explained at once.
MethodSettings counting_settings(const std::string& method, uint64_t seed);

/// Draws data and trains a net: to an accuracy of 100% with these options, in about half a minute.
CountingFit fit_counting(uint64_t seed, const CountingFitOptions& options = {},
                         const std::vector<Callback>& callbacks = {});

/// Data and net from a folder's examples.csv (read_counting) and model.safetensors
/// (load_counting_net).
CountingFit read_counting_fit(const std::string& folder);

}  // namespace diffmask
