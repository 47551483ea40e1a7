// Operators without a derivative, taken apart.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/core/random.hpp"
#include "diffmask/program/script.hpp"
#include "tests/program/script_modules.hpp"

namespace diffmask::fused_test {
namespace {

// nn.TransformerEncoderLayer as PyTorch traces it without gradients: one operator without a
// derivative, which is taken apart.
TEST(FusedTest, TakesEncoderLayersApart) {
  const auto generator = make_generator(3);
  const auto tensor = [&](std::vector<int64_t> shape) { return at::randn(shape, generator) * 0.3; };
  for (const bool norm_first : {false, true}) {
    for (const bool masked : {false, true}) {
      SCOPED_TRACE(fmt::format("norm_first {}, masked {}", norm_first, masked));
      const std::string forward = fmt::format(
          "def forward(self, x, mask):\n  return "
          "torch._transformer_encoder_layer_fwd(self.a.forward("
          "x), 8, 2, self.qkv_w, self.qkv_b, self.p_w, self.p_b, {}, {}, 1e-5, self.n1_w, "
          "self.n1_b,"
          " self.n2_w, self.n2_b, self.f1_w, self.f1_b, self.f2_w, self.f2_b, {}, {})\n",
          norm_first ? "True" : "False", norm_first ? "True" : "False", masked ? "mask" : "None",
          masked ? "1" : "None");
      auto net = module("Net", forward, {{"a", linear(4, 8, 1)}},
                        {{"qkv_w", tensor({24, 8})},
                         {"qkv_b", tensor({24})},
                         {"p_w", tensor({8, 8})},
                         {"p_b", tensor({8})},
                         {"n1_w", tensor({8})},
                         {"n1_b", tensor({8})},
                         {"n2_w", tensor({8})},
                         {"n2_b", tensor({8})},
                         {"f1_w", tensor({16, 8})},
                         {"f1_b", tensor({16})},
                         {"f2_w", tensor({8, 16})},
                         {"f2_b", tensor({8})}});
      const at::Tensor x = tensor({3, 5, 4});
      at::Tensor mask = at::zeros({3, 5}, at::kBool);
      mask[0].slice(0, 3).fill_(true);
      const auto model = script_model(net);
      const Recording recording = model->record({x, mask});
      at::Tensor expected;
      {
        const at::NoGradGuard fast;
        expected = net.forward({x, mask}).toTensor();
      }
      EXPECT_TRUE(at::allclose(recording.output(), expected, 1e-4, 1e-5));
      const at::Tensor state = recording.state("a").clone().requires_grad_(true);
      const at::Tensor output = model->resume(recording, "a", state);
      const at::Tensor gradient = torch::autograd::grad({output.sum()}, {state})[0];
      EXPECT_TRUE(gradient.isfinite().all().item<bool>());
    }
  }
}

}  // namespace
}  // namespace diffmask::fused_test
