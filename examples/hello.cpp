// A text is good if it says "good" more often than "bad". A net learns this from random texts; then
// DiffMask learns which words the net needs. Expect these two words, and no others, at each depth.
#include <fmt/format.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>

#include <diffmask/diffmask.hpp>

struct NetImpl : torch::nn::Module {
  torch::nn::Embedding embed = register_module("embed", torch::nn::Embedding(8, 16));
  torch::nn::Linear mix = register_module("mix", torch::nn::Linear(16, 16));
  torch::nn::Linear out = register_module("out", torch::nn::Linear(16, 2));
  torch::Tensor read(const torch::Tensor& h) { return mix(h).tanh(); }
  torch::Tensor decide(const torch::Tensor& h) { return out(h.sum(1)); }
};
TORCH_MODULE(Net);

int main() {
  const auto texts = torch::randint(8, {2000, 7}, torch::kLong);
  const auto labels = texts.eq(0).sum(1).gt(texts.eq(1).sum(1)).to(torch::kLong);
  Net net;
  torch::optim::Adam adam(net->parameters(), 0.01);
  for (int step = 0; step < 300; ++step, adam.step(), adam.zero_grad()) {
    torch::cross_entropy_loss(net->decide(net->read(net->embed(texts))), labels).backward();
  }
  net->eval();
  const auto model = diffmask::StagedModel::from(
      net, {{"embed", [](auto& net, auto& x, auto&) { return net.embed(x); }},
            {"read", [](auto& net, auto& h, auto&) { return net.read(h); }},
            {"decide", [](auto& net, auto& h, auto&) { return net.decide(h); }}});
  const diffmask::PaddedDataset data({{texts}}, torch::full({2000}, 7), labels, false);
  diffmask::DiffMask method(model);
  fmt::print("{}", method.fit(data, {.epsilon = 0.05, .steps = 300}).full_report());
  const std::vector<std::string> words = {"so", "the", "film"};
  const auto attribution = method.attribute(data.batch({0}));
}
