#include "diffmask/zoo/nets/init.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "diffmask/core/random.hpp"

namespace diffmask {
namespace {

struct Net : torch::nn::Module {
  Net() {
    register_module("embedding", torch::nn::Embedding(100, 50));
    register_module("linear", torch::nn::Linear(100, 60));
    register_module("gru", torch::nn::GRU(4, 16));
    register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({8})));
    direct = register_parameter("direct", at::full({3, 4}, 9.0));
  }
  at::Tensor direct;
};

TEST(InitTest, DrawsFromTheStatedDistributions) {
  Net net;  // owned by nobody, as a module is while it is constructed
  initialise(net, make_generator(1));
  const auto parameters = net.named_parameters();
  const at::Tensor embedding = parameters["embedding.weight"];
  // Five standard deviations of the mean, and of the standard deviation, of 5,000 normals.
  EXPECT_NEAR(embedding.mean().item<double>(), 0, 5 / std::sqrt(5000.0));
  EXPECT_NEAR(embedding.std().item<double>(), 1, 5 / std::sqrt(10'000.0));
  for (const auto& [name, fan_in] :
       {std::pair("linear.weight", 100), std::pair("gru.weight_ih_l0", 16),
        std::pair("gru.weight_hh_l0", 16), std::pair("direct", 4)}) {
    SCOPED_TRACE(name);
    const double range = 1 / std::sqrt(fan_in);
    const double largest = parameters[name].abs().max().item<double>();
    EXPECT_LE(largest, range);
    EXPECT_GT(largest, 0.7 * range);
  }
  EXPECT_TRUE(parameters["norm.weight"].eq(1).all().item<bool>());
  for (const char* name : {"linear.bias", "gru.bias_ih_l0", "gru.bias_hh_l0", "norm.bias"}) {
    EXPECT_TRUE(parameters[name].eq(0).all().item<bool>()) << name;
  }
}

TEST(InitTest, SameSeedSameBitsWhateverTheGlobalGenerator) {
  const auto draw = [](uint64_t seed, uint64_t global) {
    at::manual_seed(global);
    Net net;
    initialise(net, make_generator(seed));
    return torch::nn::utils::parameters_to_vector(net.parameters());
  };
  EXPECT_TRUE(draw(1, 1).equal(draw(1, 2)));
  EXPECT_FALSE(draw(1, 1).equal(draw(2, 1)));
}

}  // namespace
}  // namespace diffmask
