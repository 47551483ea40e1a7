// Training mode, told by what operators do: in TorchScript and in exported programs.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <filesystem>
#include <string>
#include <vector>

#include "diffmask/core/random.hpp"
#include "diffmask/program/exported.hpp"
#include "diffmask/program/script.hpp"
#include "tests/bad_input.hpp"
#include "tests/program/exported_archive.hpp"
#include "tests/program/script_modules.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask::modes_test {
namespace {

at::Tensor example() { return at::randn({4, 5, 6}, make_generator(7)); }

// h = a(x), then `middle`, which makes g; with buffers for running statistics.
torch::jit::Module net(const std::string& middle, bool training = false) {
  torch::jit::Module result =
      module("Net", "def unused(self, x):\n  return x\n", {{"a", linear(6, 5, 1)}});
  result.register_buffer("mean", at::zeros({5}));
  result.register_buffer("variance", at::ones({5}));
  result.setattr("training", training);
  result.define("def forward(self, x):\n  h = self.a.forward(x)\n  " + middle +
                "\n  return g.sum(1)\n");
  return result;
}

const std::vector<std::string>& drawing() {
  static const std::vector<std::string> middles = {
      "g = torch.dropout(h, 0.5, True)",
      "g = torch.dropout(h, 0.5, self.training)",
      "g = torch.feature_dropout(h, 0.5, True)",
      "g = torch.alpha_dropout(h, 0.5, True)",
      "g = torch.rrelu(h, 0.1, 0.5, True)",
      "g = torch.bernoulli(torch.sigmoid(h))",
      "g = h + torch.randn_like(h)",
      "g = h * torch.rand([5])",
      "g = h\n  for i in range(h.size(0)):\n    g = torch.dropout(g, 0.5, True)",
      "g = h\n  if bool(h.sum() < 1e9):\n    g = torch.dropout(g, 0.5, self.training)"};
  return middles;
}

const std::vector<std::string>& writing() {
  static const std::vector<std::string> middles = {
      "g = torch.batch_norm(h, None, None, self.mean, self.variance, True, 0.5, 1e-5, False)",
      "g = torch.instance_norm(h, None, None, self.mean, self.variance, True, 0.5, 1e-5, False)",
      "self.mean.add_(1)\n  g = h + self.mean", "m = self.mean[1:]\n  m.mul_(2)\n  g = h + m.sum()",
      "g = h\n  for i in range(2):\n    g = torch.batch_norm(g, None, None, self.mean, "
      "self.variance, True, 0.5, 1e-5, False)"};
  return middles;
}

TEST(ModesTest, OperatorsAtWorkAreRefusedByName) {
  for (const std::string& middle : drawing()) {
    SCOPED_TRACE(middle);
    expect_refused({{"drawing", [&] { script_model(net(middle, true)); }, "draws random numbers"}});
  }
  for (const std::string& middle : writing()) {
    SCOPED_TRACE(middle);
    expect_refused({{"writing", [&] { script_model(net(middle)); }, "writes into "}});
  }
  expect_refused(
      {{"dropout", [&] { script_model(net(drawing()[0])); },
        "but got aten::dropout in the model itself, which draws random numbers"},
       {"batch norm", [&] { script_model(net(writing()[0])); }, "writes into mean, variance"},
       {"a module's",
        [&] {
          script_model(module("Net", "def forward(self, x):\n  return self.drop.forward(x)\n",
                              {{"drop", module("Drop",
                                               "def forward(self, x):\n"
                                               "  return torch.dropout(x, 0.5, True)\n")}}));
        },
        "aten::dropout at drop"}});
}

// Also in branches that no pass takes, and where the result is not used; nothing is written.
TEST(ModesTest, OperatorsThatReachOutsideAreRefused) {
  const TemporaryFolder folder;
  const std::string file = folder / "written";
  const auto saving =
      module("Inner", "def forward(self, x):\n  if bool(x.sum() > 0.0):\n    torch.save(x, '" +
                          file + "')\n  return x\n");
  const auto reading = module(
      "Net", "def forward(self, x):\n  return x + torch.from_file('" + file + "', True, 3)\n");
  expect_refused({{"save",
                   [&] {
                     script_model(module("Net",
                                         "def forward(self, x):\n  return self.a.forward(x)\n",
                                         {{"a", saving}}));
                   },
                   "talks to no one, but got aten::save"},
                  {"from_file", [&] { script_model(reading); }, "but got aten::from_file"}});
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST(ModesTest, FlagsThatNothingDependsOnAreAccepted) {
  const at::Tensor x = example();
  for (const std::string& middle : std::vector<std::string>{
           "g = torch.tanh(h)", "g = torch.dropout(h, 0.0, self.training)",
           "g = torch.dropout(h, 0.5, False)", "g = torch.rrelu(h, 0.1, 0.5, False)",
           "g = torch.batch_norm(h, None, None, self.mean, self.variance, False, 0.5, 1e-5, False)",
           "g = torch.batch_norm(h, None, None, None, None, True, 0.5, 1e-5, False)",
           "unused = torch.randn([3])\n  g = h", "m = self.mean.clone()\n  m.add_(1)\n  g = h + m",
           "g = h\n  for i in range(2):\n    g = torch.dropout(g, 0.5, False)"}) {
    SCOPED_TRACE(middle);
    auto training = net(middle, true);
    const auto model = script_model(training);
    EXPECT_TRUE(model->chance().empty());
    EXPECT_TRUE(model->record({x}).output().equal(training.forward({x}).toTensor()));
  }
}

TEST(ModesTest, ChanceThatIsAllowedRepeatsAndWritesNothing) {
  const at::Tensor x = example();
  at::manual_seed(5);
  const at::Tensor drawn_without = at::randn({3});
  std::vector<std::string> all = drawing();
  all.insert(all.end(), writing().begin(), writing().end());
  for (const std::string& middle : all) {
    SCOPED_TRACE(middle);
    auto module = net(middle, true);
    const auto model = script_model(module, {.allow_chance = true});
    EXPECT_EQ(model->chance().size(), 1U);
    const std::string before = model->fingerprint();
    at::manual_seed(5);
    const Recording first = model->record({x}), second = model->record({x});
    EXPECT_TRUE(first.output().equal(second.output()));
    EXPECT_TRUE(model->resume(first, "a", first.state("a")).equal(first.output()));
    EXPECT_TRUE(at::randn({3}).equal(drawn_without)) << "the generator stays where it was";
    EXPECT_EQ(model->fingerprint(), before);
    EXPECT_TRUE(module.attr("mean").toTensor().equal(at::zeros({5})));
  }
  const auto seeded = [&](uint64_t seed) {
    return script_model(net(drawing()[0]), {.allow_chance = true, .seed = seed})
        ->record({x})
        .output();
  };
  EXPECT_TRUE(seeded(1).equal(seeded(1)));
  EXPECT_FALSE(seeded(1).equal(seeded(2)));
  at::manual_seed(0);
  const at::Tensor expected = net(drawing()[0]).forward({x}).toTensor();
  EXPECT_TRUE(seeded(0).equal(expected)) << "what PyTorch draws from this seed";
}

TEST(ModesTest, ExportedOperatorsAtWorkAreRefusedByName) {
  using A = ExportedArchive;
  const TemporaryFolder folder;
  const std::string path = folder / "net.pt2";
  const auto with = [&](double rate, bool train) {
    ExportedArchive archive;
    archive.nodes()[1] =
        A::node("torch.ops.aten.dropout.default",
                {A::input("input", A::tensor("linear")), A::input("p", {{"as_float", rate}}),
                 A::input("train", {{"as_bool", train}})},
                A::tensor("tanh_"), "act");
    archive.write(path);
  };
  with(0.5, true);
  expect_refused<FileError>(
      {{"dropout", [&] { load_exported(path); }, "aten::dropout at act, which draws random"}});
  const at::Tensor x = at::randn({4, 3}, make_generator(1));
  const auto model = load_exported(path, {.allow_chance = true});
  EXPECT_EQ(model->chance().size(), 1U);
  const Recording recording = model->record({x});
  EXPECT_TRUE(
      model->resume(recording, "linear", recording.state("linear")).equal(recording.output()));
  with(0.5, false);
  EXPECT_TRUE(load_exported(path)->chance().empty());
  with(0.0, true);
  EXPECT_TRUE(load_exported(path)->chance().empty());
}

// A batch norm at work on a buffer of the file.
TEST(ModesTest, ExportedStatisticsAreNotWritten) {
  using A = ExportedArchive;
  const TemporaryFolder folder;
  const std::string path = folder / "net.pt2";
  ExportedArchive archive;
  archive.nodes()[1] = A::node(
      "torch.ops.aten.batch_norm.default",
      {A::input("input", A::tensor("linear")), A::input("weight", {{"as_none", true}}),
       A::input("bias", {{"as_none", true}}), A::input("running_mean", A::tensor("p_w")),
       A::input("running_var", {{"as_none", true}}), A::input("training", {{"as_bool", true}}),
       A::input("momentum", {{"as_float", 0.1}}), A::input("eps", {{"as_float", 1e-5}}),
       A::input("cudnn_enabled", {{"as_bool", false}})},
      A::tensor("tanh_"), "act");
  archive.write(path);
  expect_refused<FileError>({{"batch norm", [&] { load_exported(path); },
                              "aten::batch_norm at act, which writes into linear.weight"}});
}

}  // namespace
}  // namespace diffmask::modes_test
