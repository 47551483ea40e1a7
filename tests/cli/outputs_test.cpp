// What the program makes of outputs and axes of every kind: --target, --output-kind, --layout.
#include <gtest/gtest.h>
#include <torch/script.h>
#include <torch/torch.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/data/batch.hpp"
#include "diffmask/format/safetensors.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

at::Tensor drawn(std::vector<int64_t> shape, uint64_t seed = 1) {
  return at::randn(shape, make_generator(seed));
}

// A net with the site "inner", which copies the first input; `after` is the rest, of x.
class OutputsTest : public ::testing::Test {
 protected:
  void save(const std::string& after, const Inputs& inputs, const std::string& arguments = "x",
            const std::map<std::string, at::Tensor>& weights = {}) {
    torch::jit::Module inner("Inner"), net("Net");
    inner.define("def forward(self, x):\n  return x.clone()\n");
    net.register_attribute("training", c10::BoolType::get(), false);
    net.register_module("inner", inner);
    for (const auto& [name, value] : weights) net.register_buffer(name, value);
    net.define("def forward(self, " + arguments + "):\n  x = self.inner.forward(x)\n" + after);
    net.save(folder_ / "net.pt");
    std::map<std::string, at::Tensor> tensors;
    for (size_t i = 0; i < inputs.size(); ++i) tensors[fmt::format("input{}", i)] = inputs[i];
    save_safetensors(folder_ / "in.safetensors", tensors);
  }

  int run(const std::string& method, const std::string& more = "") {
    const std::string command = fmt::format(
        "'{}' attribute {}/net.pt --sites inner --json --inputs {}/in.safetensors --out "
        "{}/out.safetensors "
        "--method {} {} >{}/out 2>{}/err",
        std::getenv("DIFFMASK_PROGRAM"), folder_.path(), folder_.path(), folder_.path(), method,
        more, folder_.path(), folder_.path());
    const int status = std::system(command.c_str());
    err_ = read_file(folder_ / "err");
    out_ = read_file(folder_ / "out");
    return WEXITSTATUS(status);
  }

  at::Tensor scores() { return load_safetensors(folder_ / "out.safetensors").at("inner"); }

  void expect_scores(const at::Tensor& expected) {
    EXPECT_TRUE(scores().sizes() == expected.sizes() && scores().allclose(expected, 1e-4, 1e-5))
        << scores() << expected;
  }

  void expect_refused(const std::string& method, const std::string& more,
                      const std::string& message) {
    EXPECT_NE(run(method, more), 0);
    EXPECT_NE(err_.find(message), std::string::npos) << err_;
  }

  const TemporaryFolder folder_;
  std::string out_, err_;
};

// y[b, t, c] = sum_s m[t, s] x[b, s, c]: tag c of token t rests on m[t, s] x[b, s, c].
TEST_F(OutputsTest, ATagOfAToken) {
  const at::Tensor x = drawn({3, 5, 4}), m = drawn({5, 5}, 2);
  save("  return torch.matmul(self.m, x)\n", {x}, "x", {{"m", m}});
  const at::Tensor expected = m[3] * x.select(2, 2);
  for (const char* target : {"3,2", "3:2", "=-2,2"}) {
    ASSERT_EQ(run("integrated_gradients",
                  fmt::format("--target{}{}", target[0] == '=' ? "" : " ", target)),
              0)
        << err_;
    expect_scores(expected);
  }
  ASSERT_EQ(run("leave_one_out", "--output-kind next_token --target 1"), 0) << err_;
  expect_scores(m[4] * x.select(2, 1));
  ASSERT_EQ(run("gradient_x_input", "--output-kind tokens"), 0) << err_;
  ASSERT_EQ(run("diffmask_per_sample", "--output-kind tokens --example-steps 2"), 0) << err_;
  expect_refused("lrp", "", "--target has to be a position and a class, such as '3,2', or");
  expect_refused("lrp", "--target 2", "2 of them, but got 1, for an output of shape (3, 5, 4)");
  expect_refused("lrp", "--target 5,0", "in 0..4");
  expect_refused("infomask", "", "one of tokens, next_token");
  expect_refused("infomask", "--target 3,2", "minimises a divergence of the whole output");
  expect_refused("lrp", "--target 3.2", "--target has to be a class ('1')");
}

TEST_F(OutputsTest, OneNumberIsALogitOrAQuantity) {
  const at::Tensor x = drawn({3, 4});
  save("  return (x * x).sum(1, keepdim=True) - 4.0\n", {x});
  ASSERT_EQ(run("leave_one_out"), 0) << err_;
  expect_scores(x * x);
  for (const char* method : {"diffmask_hidden", "infomask", "exact_search", "beam_search"}) {
    expect_refused(method, "--training-steps 2", "one of logit, regression");
    EXPECT_EQ(run(method, "--training-steps 2"), 2) << "an argument is missing";
  }
  for (const char* kind : {"logit", "regression"}) {
    const std::string named = fmt::format("--training-steps 2 --output-kind {}", kind);
    ASSERT_EQ(run("infomask", named), 0) << err_;
  }
  ASSERT_EQ(run("exact_search", "--output-kind logit"), 0) << err_;
  expect_refused("exact_search", "--output-kind regression", "which has none");
  expect_refused("lrp", "--output-kind span", "as its kind is 'span'");
  expect_refused("lrp", "--target x", "output has to be one of the model's, but got '[x]'\n");
}

TEST_F(OutputsTest, SeveralOutputs) {
  const at::Tensor x = drawn({3, 4});
  save("  return {'first': x * 2.0, 'second': x * 3.0}\n", {x});
  const at::Tensor one = at::zeros({3, 4});
  one.select(1, 1).copy_(3 * x.select(1, 1));
  ASSERT_EQ(run("leave_one_out", "--target second:1"), 0) << err_;
  expect_scores(one);
  ASSERT_EQ(run("leave_one_out", "--target '[second]:1'"), 0) << err_;
  expect_scores(one);
  ASSERT_EQ(run("leave_one_out", "--target 1"), 0) << err_;
  expect_scores(one / 3 * 2);
  ASSERT_EQ(run("infomask", "--training-steps 2 --target second"), 0) << err_;
  expect_refused("leave_one_out", "--target third:1", "'[third]' (nearest: [first], [second])");
  expect_refused("lrp", "--target second:1 --output '[first]'", "that --output names");
  save("  return x * 2.0\n", {x});
  expect_refused("leave_one_out", "--target x", "the model's, but got '[x]'\n");
}

TEST_F(OutputsTest, ScoresSayWhatWasExplained) {
  const auto said = [&](const std::string& key) {
    return load_safetensors(folder_ / "out.safetensors").metadata.at(key);
  };
  const at::Tensor x = drawn({3, 4});
  save("  return {'classes': x * 2.0, 'sum': x.sum(1)}\n", {x});
  for (const auto& [method, more, target] : std::vector<std::array<std::string, 3>>{
           {"leave_one_out", "", "predicted"},
           {"leave_one_out", "--target classes:1", "classes:1"},
           {"leave_one_out", "--target sum", "the only number"},
           {"leave_one_out", "--output-kind labels", "labels"},
           {"infomask", "--training-steps 2", "the whole output"}}) {
    ASSERT_EQ(run(method, more), 0) << err_;
    EXPECT_EQ(said("target"), target) << more;
    EXPECT_EQ(said("output"), more.starts_with("--target c")   ? "[classes]"
                              : more.starts_with("--target s") ? "[sum]"
                                                               : "")
        << more;
  }
}

// Row 0 of a sparse matrix reads all units, row 1 the last.
TEST_F(OutputsTest, SparseBuffers) {
  const at::Tensor x = drawn({3, 4});
  const at::Tensor matrix =
      at::tensor({1.0F, 2.0F, 3.0F, 4.0F, 0.0F, 0.0F, 0.0F, 5.0F}).view({2, 4});
  save("  return torch.mm(self.matrix, x.t()).t()\n", {x}, "x", {{"matrix", matrix.to_sparse()}});
  for (const char* method : {"leave_one_out", "integrated_gradients"}) {
    ASSERT_EQ(run(method, "--target 0"), 0) << err_;
    expect_scores(x * matrix[0]);
  }
}

// y[b, c] = sum_l c[l] x[b, c, l] and the like: a score for each cell, whatever the axes.
TEST_F(OutputsTest, SignalsAndVolumes) {
  const at::Tensor volume = drawn({2, 3, 2, 4, 3});
  save("  return x.cumsum(2).flatten(2).mean(2)\n", {volume});
  ASSERT_EQ(run("integrated_gradients", "--target 1"), 0) << err_;
  const at::Tensor left = at::tensor({2.0f, 1.0f}).view({1, 2, 1, 1});
  expect_scores(left * volume.select(1, 1) / 24);
  const at::Tensor signal = drawn({2, 3, 6});
  save("  return torch.conv1d(x, self.w).sum(2)\n", {signal}, "x", {{"w", drawn({2, 3, 1}, 2)}});
  ASSERT_EQ(run("integrated_gradients", "--target 1"), 0) << err_;
  expect_scores((drawn({2, 3, 1}, 2)[1] * signal).sum(1));
  ASSERT_EQ(run("integrated_gradients", "--target 1 --features"), 0) << err_;
  expect_scores(drawn({2, 3, 1}, 2)[1] * signal);
}

// y[b, c] = sum_t (t + 1) x[t, b, c]^2, which is told from sizes where T is not B, else tried out.
TEST_F(OutputsTest, TimeFirst) {
  for (const int64_t length : {4, 6, 8}) {
    SCOPED_TRACE(length);
    const at::Tensor x = drawn({length, 4, 2});
    const at::Tensor time = at::arange(1, length + 1).to(at::kFloat).view({-1, 1});
    save("  return (self.w * x * x).sum(0)\n", {x}, "x", {{"w", time.unsqueeze(2)}});
    for (const char* method : {"integrated_gradients", "leave_one_out", "deeplift"}) {
      SCOPED_TRACE(method);
      ASSERT_EQ(run(method, "--target 1"), 0) << err_;
      expect_scores(time * x.select(2, 1).square());
    }
    expect_refused("leave_one_out", "--target 1 --layout BTF",
                   length == 4 ? "changes other examples' outputs" : "but got (4, 2)");
    ASSERT_EQ(run("lrp", "--target 1 --layout TBF"), 0) << err_;
    EXPECT_EQ(scores().sizes(), at::IntArrayRef({length, 4}));
    ASSERT_EQ(run("deeplift", "--target 1 --features --baseline mean"), 0) << err_;
    ASSERT_EQ(run("infomask", "--training-steps 2"), 0) << err_;
    ASSERT_EQ(run("diffmask_per_sample", "--example-steps 2"), 0) << err_;
  }
}

// Nodes of one graph, y = A x^2: node 2 rests on its neighbours.
TEST_F(OutputsTest, AGraphWithoutABatch) {
  const at::Tensor x = drawn({6, 3}), edges = at::randint(0, 6, {2, 9}, make_generator(2));
  save("  h = x * x\n  return torch.zeros_like(h).index_add(0, e[1], h[e[0]])\n", {x, edges},
       "x, e");
  at::Tensor expected = at::zeros({6});
  for (int64_t i = 0; i < 9; ++i) {
    if (edges[1][i].item<int64_t>() != 2) continue;
    const at::Tensor from = edges[0][i];
    expected[from.item<int64_t>()] += x[from.item<int64_t>()][1].square();
  }
  for (const char* method : {"integrated_gradients", "leave_one_out", "deeplift"}) {
    SCOPED_TRACE(method);
    ASSERT_EQ(run(method, "--target 2,1 --layout NF"), 0) << err_;
    expect_scores(expected);
  }
  expect_refused("integrated_gradients", "--target 1", "--layout");
}

// Two rows for each example, which are compared: y[b, c] = sum_t x[2 b + c, t]^2.
TEST_F(OutputsTest, RowsOfOneExample) {
  const at::Tensor x = drawn({3, 2, 4, 5});
  torch::jit::Module inner("Inner"), net("Net");
  inner.define("def forward(self, x):\n  return x.flatten(0, 1)\n");
  net.register_attribute("training", c10::BoolType::get(), false);
  net.register_module("inner", inner);
  net.define(
      "def forward(self, x):\n"
      "  return (self.inner.forward(x) ** 2).sum(1).sum(1).view(-1, 2)\n");
  save("  return x\n", {x});
  net.save(folder_ / "net.pt");
  at::Tensor expected = x.square().sum(3);
  expected.select(1, 0).zero_();
  for (const char* method : {"integrated_gradients", "leave_one_out"}) {
    ASSERT_EQ(run(method, "--target 1"), 0) << err_;
    expect_scores(expected.flatten(0, 1));
  }
}

TEST_F(OutputsTest, NumbersThatAreNotFiniteAreAnErrorOrZero) {
  save("  return torch.sqrt(x).sum(1)\n", {at::tensor({1.0f, 0.0f, 4.0f, 9.0f}).view({1, 2, 2})});
  expect_refused("gradient", "--target 0", "at 'inner' has to be finite");
  expect_refused("gradient", "--target 0", "aten::sqrt is the first whose gradient is not finite");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out.safetensors"));
  ASSERT_EQ(run("gradient", "--target 1 --nan-to-zero"), 0) << err_;
  EXPECT_GT(nlohmann::json::parse(out_)["zeroed"], 0);
  EXPECT_TRUE(at::isfinite(scores()).all().item<bool>());
}

// A way around the quantized operator does have gradients, which would be part of the truth.
TEST_F(OutputsTest, QuantizedOperatorsAreNamed) {
  const at::Tensor x = drawn({3, 4});
  save("  return torch.quantize_per_tensor(x, 0.125, 64, 13).dequantize() + x\n", {x});
  for (const char* method :
       {"gradient", "integrated_gradients", "deeplift", "infomask", "diffmask_hidden"}) {
    expect_refused(method, "--training-steps 2", "aten::quantize_per_tensor");
  }
  expect_refused("lrp", "", "no rule for aten::dequantize");
  ASSERT_EQ(run("leave_one_out", "--target 1"), 0) << err_;
  at::Tensor expected = at::zeros({3, 4});
  expected.select(1, 1).copy_((x + (x / 0.125).round() * 0.125).select(1, 1));
  expect_scores(expected);
}

TEST_F(OutputsTest, AMaskThatAllExamplesShare) {
  const at::Tensor m = drawn({4, 4}, 2), scale = at::tensor(0.5f);
  for (const int64_t examples : {3, 4}) {
    const at::Tensor x = drawn({examples, 4, 3});
    save("  return torch.matmul(m, x).select(1, 2) / t\n", {x, m, scale}, "x, m, t");
    for (const char* method : {"integrated_gradients", "leave_one_out", "deeplift"}) {
      ASSERT_EQ(run(method, "--target 1"), 0) << err_;
      expect_scores(m[2] * x.select(2, 1) / scale);
    }
    for (const char* method : {"infomask", "diffmask_hidden", "bottleneck"}) {
      ASSERT_EQ(run(method, "--training-steps 2 --example-steps 2"), 0) << err_;
    }
  }
}

}  // namespace
}  // namespace diffmask
