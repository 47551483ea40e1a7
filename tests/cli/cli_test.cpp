#include <gtest/gtest.h>
#include <torch/script.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/format/safetensors.hpp"
#include "tests/program/exported_archive.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

// Runs the program as a user would.
class CliTest : public ::testing::Test {
 protected:
  CliTest() {
    torch::jit::Module inner("Inner");
    inner.define("def forward(self, x):\n  return torch.tanh(x), x * 2\n");
    torch::jit::Module net("Net");
    net.register_attribute("training", c10::BoolType::get(), false);
    net.register_module("inner", inner);
    net.define("def forward(self, x):\n  a, b = self.inner.forward(x)\n  return a + b\n");
    net.save(model_);
    const at::Tensor x = at::randn({2, 3}, make_generator(1));
    save_safetensors(inputs_, {{"input0", x}});
    save_safetensors(folder_ / "wrong.safetensors", {{"input0", x}, {"output", at::tanh(x)}});
    save_safetensors(folder_ / "none.safetensors", {{"x", x}});
  }

  int run(const std::string& arguments) {
    const std::string command = fmt::format("'{}' {} >'{}' 2>'{}'", std::getenv("DIFFMASK_PROGRAM"),
                                            arguments, folder_ / "out", folder_ / "err");
    const int status = std::system(command.c_str());
    out_ = read_file(folder_ / "out");
    err_ = read_file(folder_ / "err");
    return WEXITSTATUS(status);
  }

  const TemporaryFolder folder_;
  const std::string model_ = folder_ / "model.pt", inputs_ = folder_ / "inputs.safetensors";
  std::string out_, err_;
};

TEST_F(CliTest, ListsSites) {
  ASSERT_EQ(run("sites " + model_ + " --json"), 0) << err_;
  const auto bare = nlohmann::json::parse(out_);
  ASSERT_EQ(bare.size(), 3);
  EXPECT_EQ(bare[0]["name"], "input0");
  EXPECT_EQ(bare[2],
            (nlohmann::json{
                {"name", "inner[1]"}, {"type", "Inner"}, {"shape", nullptr}, {"dtype", nullptr}}));
  for (const std::string& inputs : {inputs_, std::string("'float32[2,3]'")}) {
    ASSERT_EQ(run("sites " + model_ + " --json --sites 'inner[0]' --inputs " + inputs), 0) << err_;
    EXPECT_EQ(
        nlohmann::json::parse(out_),
        nlohmann::json::parse(
            R"([{"name": "inner[0]", "type": "Inner", "shape": [2, 3], "dtype": "float32"}])"));
  }
  ASSERT_EQ(run("sites " + model_), 0);
  EXPECT_NE(out_.find("inner[1]"), std::string::npos);
}

TEST_F(CliTest, ChecksThatResumingGivesTheModelsOutput) {
  ASSERT_EQ(run("check " + model_ + " --json --inputs " + inputs_), 0) << err_;
  const auto result = nlohmann::json::parse(out_);
  EXPECT_EQ(result["output_difference"], 0.0);
  ASSERT_EQ(result["sites"].size(), 2);
  for (const auto& site : result["sites"]) {
    EXPECT_EQ(site["resume_difference"], 0.0);
    EXPECT_GT(site["record_seconds"], 0.0);
    EXPECT_GT(site["resume_seconds"], 0.0);
  }
  // An expected output in the file comes first.
  ASSERT_EQ(run("check " + model_ + " --json --inputs " + folder_ / "wrong.safetensors"), 1);
  EXPECT_GT(nlohmann::json::parse(out_)["output_difference"], 0.0);
}

TEST_F(CliTest, ReadsExportedPrograms) {
  const std::string exported = folder_ / "net.pt2";
  const ExportedArchive archive;
  archive.write(exported);
  ASSERT_EQ(run("sites " + exported + " --json --inputs " + inputs_), 0) << err_;
  EXPECT_EQ(nlohmann::json::parse(out_)[2],
            nlohmann::json::parse(
                R"({"name": "act", "type": "Module_act", "shape": [2, 2], "dtype": "float32"})"));
  Safetensors file = load_safetensors(inputs_);
  file.tensors["output"] = at::tanh(
      at::linear(file.at("input0"), at::tensor(at::ArrayRef<float>(archive.values)).view({2, 3})));
  save_safetensors(folder_ / "expected.safetensors", file.tensors);
  ASSERT_EQ(run("check " + exported + " --json --inputs " + folder_ / "expected.safetensors"), 0)
      << err_;
  EXPECT_EQ(nlohmann::json::parse(out_)["output_difference"], 0.0);
}

// LRP walks once for all sites of the same positions: here a and b, and c by itself.
TEST_F(CliTest, LrpExplainsSitesTogether) {
  torch::jit::Module net("Net");
  net.register_attribute("training", c10::BoolType::get(), false);
  for (const char* name : {"a", "b", "c"}) {
    torch::jit::Module inner("Inner");
    inner.define("def forward(self, x):\n  return x.tanh()\n");
    net.register_module(name, inner);
  }
  net.define(
      "def forward(self, x):\n"
      "  return self.c.forward(self.b.forward(self.a.forward(x) * 3.0).sum(1)) * 2.0\n");
  const std::string path = folder_ / "three.pt", in = folder_ / "in.safetensors",
                    out = folder_ / "scores.safetensors";
  net.save(path);
  save_safetensors(in, {{"input0", at::randn({2, 5, 3}, make_generator(2))}});
  const auto run_at = [&](const std::string& sites) {
    EXPECT_EQ(run(fmt::format("attribute {} --inputs {} --out {} --json --method lrp --sites '{}'",
                              path, in, out, sites)),
              0)
        << err_;
    return nlohmann::json::parse(out_);
  };
  const auto summary = run_at("*");
  const auto together = load_safetensors(out).tensors;
  EXPECT_EQ(summary["passes"], 2 * 2);
  ASSERT_EQ(summary["sites"].size(), 3);
  int64_t number = 0;
  for (const std::string site : {"a", "b", "c"}) {
    EXPECT_EQ(summary["sites"][number++]["name"], site);
    EXPECT_EQ(run_at(site)["passes"], 2);
    EXPECT_TRUE(load_safetensors(out).at(site).equal(together.at(site))) << site;
  }
}

// A linear model of (B, T, F): each method that attributes by amounts gives weight x input.
TEST_F(CliTest, AttributesToSites) {
  torch::jit::Module inner("Inner"), net("Net");
  inner.define("def forward(self, x):\n  return x.clone()\n");
  net.register_attribute("training", c10::BoolType::get(), false);
  net.register_module("inner", inner);
  net.define("def forward(self, x):\n  return self.inner.forward(x).sum(1) * 2.0\n");
  const std::string linear = folder_ / "linear.pt", out = folder_ / "scores.safetensors",
                    three = folder_ / "three.safetensors";
  net.save(linear);
  const at::Tensor x = at::randn({2, 5, 3}, make_generator(2));
  save_safetensors(three, {{"input0", x}});
  const std::string common = fmt::format(
      "attribute {} --inputs {} --out {} --target 1 --json --method ", linear, three, out);
  for (const char* method :
       {"gradient_x_input", "integrated_gradients", "deeplift", "lrp", "leave_one_out"}) {
    SCOPED_TRACE(method);
    ASSERT_EQ(run(common + method), 0) << err_;
    const auto summary = nlohmann::json::parse(out_);
    EXPECT_EQ(summary["sites"][0]["shape"], (nlohmann::json{2, 5}));
    EXPECT_GT(summary["passes"], 0);
    const at::Tensor scores = load_safetensors(out).at("inner");
    EXPECT_TRUE(at::allclose(scores, 2 * x.select(2, 1), 1e-4, 1e-5)) << scores;
  }
  ASSERT_EQ(run(common + "deeplift --features --baseline mean"), 0) << err_;
  const at::Tensor features = load_safetensors(out).at("inner");
  EXPECT_TRUE(at::allclose(features.select(2, 1),
                           2 * (x - x.mean(at::IntArrayRef({0, 1}), true)).select(2, 1), 1e-4,
                           1e-5));
  ASSERT_EQ(run(common + "exact_search"), 0) << err_;
  EXPECT_EQ(nlohmann::json::parse(out_)["sites"][0]["proven"], 2);
  // Methods that learn do so from these inputs.
  for (const char* method : {"infomask", "diffmask_hidden", "diffmask_per_sample"}) {
    SCOPED_TRACE(method);
    EXPECT_NE(run(common + method), 0);  // with a target, where they explain the whole output
    ASSERT_EQ(run(fmt::format("attribute {} --inputs {} --out {} --json --method {} "
                              "--training-steps 3 --example-steps 3",
                              linear, three, out, method)),
              0)
        << err_;
    EXPECT_EQ(load_safetensors(out).at("inner").sizes(), (std::vector<int64_t>{2, 5}));
  }
  // The units of a vector are positions, too.
  torch::jit::Module flat("Flat");
  flat.register_attribute("training", c10::BoolType::get(), false);
  flat.register_module("inner", inner);
  flat.define("def forward(self, x):\n  return self.inner.forward(x) * 2.0\n");
  flat.save(folder_ / "flat.pt");
  save_safetensors(folder_ / "two.safetensors", {{"input0", x[0]}});
  ASSERT_EQ(run(fmt::format("attribute {0}/flat.pt --inputs {0}/two.safetensors --out {1} "
                            "--target 1 --method gradient_x_input --baseline mean",
                            folder_.path(), out)),
            0)
      << err_;
  at::Tensor units = at::zeros({5, 3});
  units.select(1, 1).copy_(2 * (x[0] - x[0].mean(0)).select(1, 1));
  EXPECT_TRUE(at::allclose(load_safetensors(out).at("inner"), units, 1e-4, 1e-5));
  struct Bad {
    std::string arguments, message;
  };
  for (const Bad& bad : std::vector<Bad>{
           {"lime", "--method"},
           {"deeplift --target 7", "target has to be in 0..2"},
           {"deeplift --baseline none",
            "--baseline has to be zero, mean, other or a safetensors file"},
           {"leave_one_out --features", "--features has to be asked for of a method"},
           {"leave_one_out --max-batch 0", "max_batch has to be >= 1"},
           {"infomask --training-steps -1", "--training-steps"},
       }) {
    SCOPED_TRACE(bad.arguments);
    std::string arguments = common + bad.arguments;
    if (bad.arguments.find("--target") != std::string::npos) {
      arguments.replace(arguments.find("--target 1 "), 11, "");
    }
    EXPECT_NE(run(arguments), 0);
    EXPECT_NE((out_ + err_).find(bad.message), std::string::npos) << out_ << err_;
  }
}

TEST_F(CliTest, ComparesMethods) {
  torch::jit::Module inner("Inner"), net("Net");
  inner.define("def forward(self, x):\n  return x.clone()\n");
  net.register_attribute("training", c10::BoolType::get(), false);
  net.register_module("inner", inner);
  net.define("def forward(self, x):\n  return torch.tanh(self.inner.forward(x)).sum(1) * 2.0\n");
  const std::string model = folder_ / "tanh.pt", three = folder_ / "three.safetensors";
  net.save(model);
  save_safetensors(three, {{"input0", at::randn({6, 5, 3}, make_generator(2))}});
  const std::string common = fmt::format("compare {} --inputs {} --sites inner ", model, three);
  ASSERT_EQ(run(common + "--json"), 0) << err_;
  const auto all = nlohmann::json::parse(out_);
  EXPECT_EQ(all["rows"].size(), 11);
  for (const auto& row : all["rows"]) EXPECT_EQ(row["failure"], "") << row["method"];
  ASSERT_EQ(run(common + "--methods leave_one_out --baseline other --keep-rates 0.4 --markdown " +
                (folder_ / "t.md") + " --html " + (folder_ / "t.html")),
            0)
      << err_;
  // Uniform and random scores are there unasked.
  for (const char* text :
       {"## inner", "| uniform |", "| random |", "| leave_one_out |", "sufficiency at 40%"}) {
    EXPECT_NE(out_.find(text), std::string::npos) << text;
  }
  EXPECT_EQ(read_file(folder_ / "t.md"), out_);
  EXPECT_NE(read_file(folder_ / "t.html").find("<table>"), std::string::npos);
  ASSERT_EQ(run(common + "--methods infomask,reinforce_per_sample --training-steps 3 "
                         "--example-steps 3 --json"),
            0)
      << err_;
  const auto learned = nlohmann::json::parse(out_);
  ASSERT_EQ(learned["rows"].size(), 4);
  for (const auto& row : learned["rows"]) EXPECT_EQ(row["failure"], "") << row["method"];
  for (const auto& [arguments, message] : std::vector<std::pair<std::string, std::string>>{
           {"--keep-rates 2", "keep_rates has to be in (0, 1], but got 2"},
           {"--methods lime", "--methods"},
           {"--seeds 0", "seeds has to be >= 1"}}) {
    EXPECT_NE(run(common + arguments), 0);
    EXPECT_NE((out_ + err_).find(message), std::string::npos) << out_ << err_;
  }
}

TEST_F(CliTest, RefusesBadInput) {
  struct Bad {
    std::string arguments, message;
  };
  write_file(folder_ / "text.pt", "no archive");
  const std::string exported = folder_ / "net.pt2";
  ExportedArchive().write(exported);
  for (const Bad& bad : std::vector<Bad>{
           {"", "A subcommand is required"},
           {"sites " + (folder_ / "none.pt"), "File does not exist"},
           {"sites " + (folder_ / "text.pt"), "is no zip archive"},
           {"check " + exported + " --inputs " + inputs_, "a file with the expected 'output'"},
           {"sites " + model_ + " --sites innr", "(nearest: input0, inner[0]"},
           {"sites " + model_ + " --inputs 'float31[2]'", "--inputs has to be a safetensors file"},
           {"sites " + model_ + " --inputs 'float32[2'", "--inputs has to be a safetensors file"},
           {"sites " + model_ + " --output '[7]'", "output has to be one of the model's"},
           {"check " + model_, "--inputs is required"},
           {"check " + model_ + " --inputs " + (folder_ / "none.safetensors"),
            "--inputs has to be a file with a tensor 'input0'"},
       }) {
    SCOPED_TRACE(bad.arguments);
    EXPECT_NE(run(bad.arguments), 0);
    EXPECT_NE((out_ + err_).find(bad.message), std::string::npos) << out_ << err_;
  }
}

}  // namespace
}  // namespace diffmask
