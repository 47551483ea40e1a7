#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>
#include <torch/nn/utils/rnn.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/zoo/data/words.hpp"
#include "diffmask/zoo/nets/gru_classifier.hpp"
#include "diffmask/zoo/nets/init.hpp"

namespace diffmask {

namespace nn = torch::nn;

void GruClassifierOptions::validate() const {
  require(vocabulary >= 1, "vocabulary", ">= 1", vocabulary);
  require(classes >= 2, "classes", ">= 2", classes);
  require(embedding_size >= 1, "embedding_size", ">= 1", embedding_size);
  require(hidden_size >= 1, "hidden_size", ">= 1", hidden_size);
  require(dropout >= 0 && dropout < 1, "dropout", "in [0, 1)", dropout);
  require(word_dropout >= 0 && word_dropout < 1, "word_dropout", "in [0, 1)", word_dropout);
}

GruClassifier::GruClassifier(GruClassifierOptions options, at::Generator generator)
    : options_(options), generator_(generator) {
  options_.validate();
  const int64_t wide = 2 * options_.hidden_size;
  embedding_ =
      register_module("embedding", nn::Embedding(options_.vocabulary, options_.embedding_size));
  for (int64_t i = 0; i < 2; ++i) {
    const auto gru = nn::GRUOptions(i == 0 ? options_.embedding_size : wide, options_.hidden_size)
                         .batch_first(true)
                         .bidirectional(true);
    layers_.push_back(register_module(fmt::format("gru{}", i), nn::GRU(gru)));
  }
  head_ = register_module("head", nn::Linear(wide, options_.classes));
  initialise(*this, generator);
}

at::Tensor GruClassifier::dropped(const at::Tensor& state) const {
  return is_training() ? dropped_out(state, options_.dropout, generator_) : state;
}

at::Tensor GruClassifier::embed(const at::Tensor& words) const {
  if (!is_training()) return embedding_->forward(words);
  const at::TensorOptions there(generator_.device());
  const at::Tensor lost = at::empty(words.sizes(), there.dtype(at::kBool))
                              .bernoulli_(options_.word_dropout, generator_)
                              .to(words.device());
  return dropped(embedding_->forward(words.masked_fill(lost, Vocabulary::kUnknown)));
}

at::Tensor GruClassifier::layer(int64_t number, const at::Tensor& state,
                                const at::Tensor& mask) const {
  namespace rnn = torch::nn::utils::rnn;
  const at::Tensor lengths = mask.sum(1).to(at::kCPU);
  const auto packed = rnn::pack_padded_sequence(state, lengths, /*batch_first=*/true,
                                                /*enforce_sorted=*/false);
  // In training mode whatever the net's, since cuDNN has no gradients in the other; without dropout
  // within the layer both are the same function.
  const at::Tensor start = at::zeros({2, mask.size(0), options_.hidden_size}, state.options());
  const at::Tensor run = std::get<0>(
      at::gru(packed.data(), packed.batch_sizes(), start, layers_.at(number)->parameters(),
              /*has_biases=*/true, /*num_layers=*/1, /*dropout=*/0.0, /*train=*/true,
              /*bidirectional=*/true));
  const rnn::PackedSequence unpacked(run, packed.batch_sizes(), packed.sorted_indices(),
                                     packed.unsorted_indices());
  return std::get<0>(rnn::pad_packed_sequence(unpacked, /*batch_first=*/true, 0.0, mask.size(1)));
}

at::Tensor GruClassifier::classify(const at::Tensor& state, const at::Tensor& mask) const {
  const at::Tensor pooled = state.masked_fill(mask.logical_not().unsqueeze(2), -INFINITY).amax(1);
  return head_->forward(dropped(pooled));
}

at::Tensor GruClassifier::forward(const at::Tensor& words, const at::Tensor& mask) const {
  return classify(layer(1, layer(0, embed(words), mask), mask), mask);
}

std::shared_ptr<StagedModel> staged(std::shared_ptr<GruClassifier> net) {
  std::vector<Stage> stages = {
      {"embedding", [net](const at::Tensor& words, const Inputs&) { return net->embed(words); }},
      {"gru.0", [net](const at::Tensor& h, const Inputs& x) { return net->layer(0, h, x[1]); }},
      {"gru.1", [net](const at::Tensor& h, const Inputs& x) { return net->layer(1, h, x[1]); }},
      {"head", [net](const at::Tensor& h, const Inputs& x) { return net->classify(h, x[1]); }}};
  return std::make_shared<StagedModel>(net, std::move(stages));
}

}  // namespace diffmask
