#include <ATen/ATen.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/zoo/nets/counting_net.hpp"

#include "diffmask/core/random.hpp"
#include "diffmask/zoo/nets/init.hpp"
#include "diffmask/zoo/nets/weights.hpp"

namespace diffmask {

namespace nn = torch::nn;

CountingNet::CountingNet(at::Generator generator) {
  embedding_input_ = register_module("embedding_input", nn::Embedding(10, 64));
  embedding_query_ = register_module("embedding_query", nn::Embedding(10, 64));
  encoder_ = register_module("encoder",
                             nn::Sequential(nn::Linear(192, 64), nn::Tanh(), nn::Linear(64, 2)));
  gru_ = register_module("gru", nn::GRU(nn::GRUOptions(2, 64).batch_first(true)));
  head_ = register_module("head", nn::Linear(64, 1));
  initialise(*this, std::move(generator));
}

at::Tensor CountingNet::embed(const at::Tensor& digits) const {
  return embedding_input_->forward(digits);
}

at::Tensor CountingNet::encode(const at::Tensor& embeddings, const at::Tensor& queries) const {
  const at::Tensor query = embedding_query_->forward(queries).flatten(1).unsqueeze(1);
  return encoder_->forward(at::cat({query.expand({-1, embeddings.size(1), -1}), embeddings}, -1));
}

at::Tensor CountingNet::decide(const at::Tensor& encoded, const at::Tensor& mask) const {
  const at::Tensor states = std::get<0>(gru_->forward(encoded));
  const at::Tensor last = (mask.sum(1) - 1).view({-1, 1, 1}).expand({-1, 1, states.size(2)});
  return head_->forward(states.gather(1, last).squeeze(1)).squeeze(-1);
}

std::shared_ptr<StagedModel> staged(std::shared_ptr<CountingNet> net) {
  std::vector<Stage> stages = {
      {"embedding", [net](const at::Tensor& digits, const Inputs&) { return net->embed(digits); }},
      {"encoder", [net](const at::Tensor& h, const Inputs& x) { return net->encode(h, x[1]); }},
      {"head", [net](const at::Tensor& h, const Inputs& x) { return net->decide(h, x[2]); }}};
  return std::make_shared<StagedModel>(net, std::move(stages));
}

std::shared_ptr<CountingNet> load_counting_net(const std::string& path) {
  auto net = std::make_shared<CountingNet>(make_generator(0));
  load_weights(*net, path);
  net->eval();
  return net;
}

}  // namespace diffmask
