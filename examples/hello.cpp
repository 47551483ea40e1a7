// A text is good if it says "good" more often than "bad". A net learns this from random texts; then
// DiffMask learns which words the net needs. Expect these two words, and no others, at each depth.
#include <fmt/format.h>
#include <torch/nn.h>
#include <torch/optim/adam.h>

#include <diffmask/diffmask.hpp>

struct NetImpl : torch::nn::Module {
  torch::nn::Embedding embed = register_module("embed", torch::nn::Embedding(8, 16));
  torch::nn::Linear mix = register_module("mix", torch::nn::Linear(16, 16));
  torch::nn::Linear out = register_module("out", torch::nn::Linear(16, 2));
  at::Tensor read(const at::Tensor& h) { return mix(h).tanh(); }
  at::Tensor decide(const at::Tensor& h) { return out(h.sum(1)); }
};
TORCH_MODULE(Net);

int main(int argc, char** argv) {
  const auto texts = at::randint(8, {2000, 7}, diffmask::make_generator(1), at::kLong);
  const auto labels = texts.eq(0).sum(1).gt(texts.eq(1).sum(1)).to(at::kLong);
  Net net;
  torch::optim::Adam adam(net->parameters(), 0.01);
  for (int step = 0; step < 200; ++step, adam.step(), adam.zero_grad())
    at::cross_entropy_loss(net->decide(net->read(net->embed(texts))), labels).backward();
  net->eval();
  const auto model = diffmask::StagedModel::from(
      net, {{"embed", [](auto& net, auto& x, auto&) { return net.embed(x); }},
            {"read", [](auto& net, auto& h, auto&) { return net.read(h); }},
            {"decide", [](auto& net, auto& h, auto&) { return net.decide(h); }}});
  const diffmask::PaddedDataset data({{texts, true}}, at::full(2000, 7), labels, false);
  diffmask::DiffMask method(model);
  fmt::print("{}\n", method.fit(data, {.epsilon = 0.05, .steps = 300}).full_report());
  const char* words[] = {"good", "bad", "the", "film", "was", "so", "long", "!"};
  std::vector<std::string> names;
  for (int t = 0; t < 7; ++t) names.push_back(words[texts[0][t].item<int64_t>()]);
  const auto picture = diffmask::heatmap(method.attribute(data.batch({0})), 0, names, "a text");
  fmt::print("{}", diffmask::terminal_heatmap(picture, /*colour=*/true));
  if (argc > 1) diffmask::write_file(argv[1], diffmask::svg_heatmap(picture));
}
