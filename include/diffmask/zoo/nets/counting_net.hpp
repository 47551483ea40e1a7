#pragma once
/// \file
/// The model of the counting task (De Cao et al. 2020, appendix A), whose true attribution is
/// known:
///
///     e_t = E_x[x_t],  q = [E_q[n]; E_q[m]]
///     s_t = W2 tanh(W1 [q; e_t] + b1) + b2        (2 numbers for each digit)
///     logit = w GRU(s_1, ..., s_T)_T + b           (positive: more n than m)
///
///     const auto model = staged(load_counting_net("toy/model.safetensors"));
///     const Batch batch = make_counting(16, generator).dataset().batch(iota(16));
///     const Recording recording = model->record(batch.inputs, {"embedding"});

#include <memory>
#include <string>

#include "diffmask/model/staged.hpp"
#include "diffmask/zoo/data/counting.hpp"

namespace torch::nn {
class EmbeddingImpl;
class GRUImpl;
class LinearImpl;
class SequentialImpl;
}  // namespace torch::nn

namespace diffmask {

class CountingNet : public torch::nn::Module {
 public:
  /// Initial weights are drawn from the generator.
  explicit CountingNet(at::Generator generator);

  /// Shapes: digits (B, T) -> (B, T, 64).
  at::Tensor embed(const at::Tensor& digits) const;
  /// Shapes: embeddings (B, T, 64), queries (B, 2) -> (B, T, 2).
  at::Tensor encode(const at::Tensor& embeddings, const at::Tensor& queries) const;
  /// Shapes: encoded (B, T, 2), mask (B, T) -> (B).
  at::Tensor decide(const at::Tensor& encoded, const at::Tensor& mask) const;

 private:
  std::shared_ptr<torch::nn::EmbeddingImpl> embedding_input_, embedding_query_;
  std::shared_ptr<torch::nn::SequentialImpl> encoder_;
  std::shared_ptr<torch::nn::GRUImpl> gru_;
  std::shared_ptr<torch::nn::LinearImpl> head_;
};

/// As a staged model with inputs digits, queries and mask. Sites "embedding" (B, T, 64) and
/// "encoder" (B, T, 2).
std::shared_ptr<StagedModel> staged(std::shared_ptr<CountingNet> net);

/// A trained net from a safetensors file, in evaluation mode. FileError as of load_weights.
std::shared_ptr<CountingNet> load_counting_net(const std::string& path);

}  // namespace diffmask
