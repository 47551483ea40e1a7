#pragma once
/// \file
/// Fine-tuning of an encoder that is to be explained: the usual settings, and texts that lose words
/// while it learns, so that an explainer's masks are nothing new to it (Hase et al. 2021).
///
///     const at::Tensor weights = frequency_weights(training, tokenizer.size());
///     const auto forward = [&](const Inputs& x) {
///       if (!net->is_training()) return net->forward(x);
///       return net->forward(with_lost_words(x, tokenizer, 1.0, weights, generator));
///     };
///     train_supervised(*net, forward, cross_entropy, training, development,
///                      fine_tuning({.epochs = 3}));

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "diffmask/data/batch.hpp"
#include "diffmask/zoo/data/encoded.hpp"
#include "diffmask/zoo/data/wordpiece.hpp"
#include "diffmask/zoo/nets/supervised.hpp"

namespace diffmask {

struct FineTuningOptions {
  int64_t epochs = 3;       ///< >= 1
  int64_t batch_size = 32;  ///< >= 1
  double rate = 1e-4;       ///< largest step size, > 0
  uint64_t seed = 0;        ///< decides the order of the examples
};

/// BERT's usual settings: warm-up over a tenth of the steps, linear decay, weight decay of 0.01, of
/// matrices alone, batches of like lengths.
SupervisedOptions fine_tuning(const FineTuningOptions& options);

/// A weight per token id, by which texts lose more of what is frequent and says little:
///
///     a + (1 - a) max(0, 1 - sqrt(t / f)),   t = 0.0005,  a = 0.5
///
/// where f is the id's share of the data's tokens (the subsampling of Mikolov et al. 2013, section
/// 2.3); a leaves no token always there. Shape: (vocabulary).
at::Tensor frequency_weights(const EncodedDataset& data, int64_t vocabulary);

/// The inputs with tokens replaced by [MASK]: each text at a rate of its own, uniform on (0, most),
/// times the token's weight. [CLS], [SEP] and padding stay.
/// Shape: inputs[0] the ids (B, T); weights (vocabulary), in [0, 1]; most in [0, 1].
Inputs with_lost_words(Inputs inputs, const WordPiece& tokenizer, double most,
                       const at::Tensor& weights, const at::Generator& generator);

/// While it lives, and if `wanted`, products of float32 matrices are taken in bfloat16 on
/// processors that have them (with LibTorch 2 and AMX, say; elsewhere attention alone is computed
/// in another way): faster and less exact. One at a time: it sets what holds for the whole program.
class Bfloat16Products {
 public:
  explicit Bfloat16Products(bool wanted);
  ~Bfloat16Products();
  Bfloat16Products(const Bfloat16Products&) = delete;
  Bfloat16Products& operator=(const Bfloat16Products&) = delete;
};

}  // namespace diffmask
