#pragma once
/// \file
/// A text classifier: word embeddings, two bidirectional GRU layers (Cho et al. 2014), max
/// pooling, linear.
///
///     h_0 = E[x],   h_1 = BiGRU_0(h_0),   h_2 = BiGRU_1(h_1),   y = W max_t h_2[t] + b
///
///     const GruClassifierOptions options{.vocabulary = vocabulary.size(), .classes = 5};
///     const auto net = std::make_shared<GruClassifier>(options, make_generator(seed));
///     const auto model = staged(net);   // once it is trained: zoo/nets/supervised.hpp

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "diffmask/model/staged.hpp"

namespace torch::nn {
class EmbeddingImpl;
class GRUImpl;
class LinearImpl;
}  // namespace torch::nn

namespace diffmask {

struct GruClassifierOptions {
  int64_t vocabulary = 0;        ///< number of words, >= 1
  int64_t classes = 2;           ///< >= 2
  int64_t embedding_size = 128;  ///< >= 1
  int64_t hidden_size = 64;      ///< H, per direction, >= 1
  double dropout = 0.5;          ///< of embeddings and pooled states in training mode, in [0, 1)
  double word_dropout = 0.2;     ///< share of words replaced by the unknown word in training mode,
                                 ///< in [0, 1)

  void validate() const;
};

class GruClassifier : public torch::nn::Module {
 public:
  /// Initial weights and dropout are drawn from the generator.
  GruClassifier(GruClassifierOptions options, at::Generator generator);

  /// Shapes: words (B, T) int64 -> (B, T, E).
  at::Tensor embed(const at::Tensor& words) const;
  /// 0 where the mask is false; states there are not read, so padding changes nothing.
  /// Shapes: state (B, T, F), mask (B, T) -> (B, T, 2H).
  at::Tensor layer(int64_t number, const at::Tensor& state, const at::Tensor& mask) const;
  /// Shapes: state (B, T, 2H), mask (B, T) -> (B, classes).
  at::Tensor classify(const at::Tensor& state, const at::Tensor& mask) const;
  /// Logits. Shapes: words, mask (B, T) -> (B, classes).
  at::Tensor forward(const at::Tensor& words, const at::Tensor& mask) const;

 private:
  at::Tensor dropped(const at::Tensor& state) const;

  GruClassifierOptions options_;
  at::Generator generator_;
  std::shared_ptr<torch::nn::EmbeddingImpl> embedding_;
  std::vector<std::shared_ptr<torch::nn::GRUImpl>> layers_;
  std::shared_ptr<torch::nn::LinearImpl> head_;
};

/// As a staged model with inputs words and mask. Sites "embedding", "gru.0", "gru.1".
std::shared_ptr<StagedModel> staged(std::shared_ptr<GruClassifier> net);

}  // namespace diffmask
