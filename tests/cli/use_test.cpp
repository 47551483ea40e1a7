// How the program treats its user: masks in the inputs' file, what score files say about
// themselves, exit codes, and threads.
#include <gtest/gtest.h>
#include <torch/script.h>

#include <nlohmann/json.hpp>
#include <set>

#include "diffmask/core/random.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/program/script.hpp"
#include "diffmask/version.hpp"
#include "tests/cli/run_program.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

// f(x, m) = 2 sum over t of x_t, read from (B, T, F) at `inner`; `pooled` is (B, F).
class UseTest : public ::testing::Test {
 protected:
  UseTest() {
    torch::jit::Module inner("Inner"), net("Net");
    inner.register_buffer("scale", at::ones({1}));
    inner.define("def forward(self, x):\n  return x * self.scale\n");
    torch::jit::Module pooled("Pooled");
    pooled.define("def forward(self, x):\n  return x.sum(1)\n");
    net.register_attribute("training", c10::BoolType::get(), false);
    net.register_module("inner", inner);
    net.register_module("pooled", pooled);
    net.define(
        "def forward(self, x, m):\n"
        "  return self.pooled.forward(self.inner.forward(x)) * 2.0 + 0 * m.sum()\n");
    net.save(model_);
    x_ = at::randn({2, 5, 3}, make_generator(2));
    kept_ = at::ones({2, 5}, at::kLong);
    kept_.narrow(1, 3, 2).zero_();
    save_safetensors(inputs_, {{"input0", x_}, {"input1", kept_}});
  }

  ProgramRun run(const std::string& arguments, const std::string& before = "") const {
    return run_program(folder_, arguments, before);
  }

  ProgramRun attribute(const std::string& options) const {
    return run(fmt::format("attribute {} --json --method gradient_x_input --target 1 --out {} {}",
                           model_, scores_, options));
  }

  // A file of the inputs, and of this mask.
  std::string with_mask(const at::Tensor& mask) const {
    const std::string path = folder_ / fmt::format("masked{}.safetensors", folder_.count());
    save_safetensors(path, {{"input0", x_}, {"input1", kept_}, {"mask", mask}});
    return "--inputs " + path;
  }

  const TemporaryFolder folder_;
  const std::string model_ = folder_ / "model.pt", inputs_ = folder_ / "inputs.safetensors",
                    scores_ = folder_ / "scores.safetensors";
  at::Tensor x_, kept_;
};

TEST_F(UseTest, AMaskIsTheFilesOrAnInput) {
  const at::Tensor all = 2 * x_.select(2, 1), some = all * kept_;
  struct Case {
    std::string options;
    at::Tensor scores;
    std::string mask;
  };
  const std::string plain = "--sites inner --inputs " + inputs_;
  for (const Case& each :
       {Case{plain, all, ""}, Case{plain + " --mask input1", some, "input1"},
        Case{"--sites inner " + with_mask(kept_.ne(0)), some, "mask"},
        Case{"--sites inner " + with_mask(kept_.to(at::kFloat)), some, "mask"}}) {
    SCOPED_TRACE(each.options);
    const ProgramRun done = attribute(each.options);
    ASSERT_EQ(done.status, 0) << done.err;
    const Safetensors file = load_safetensors(scores_);
    EXPECT_TRUE(file.at("inner").allclose(each.scores, 1e-5, 1e-6)) << file.at("inner");
    EXPECT_EQ(file.metadata.at("mask"), each.mask);
  }
}

TEST_F(UseTest, AMaskThatFitsNoSiteIsAnError) {
  struct Case {
    std::string options, message;
  };
  for (const Case& each :
       {Case{"--sites inner " + with_mask(at::ones({2, 9}, at::kBool)),
             "mask has to be of the shape of a site's positions, (2, 5) at inner, but got (2, 9)"},
        Case{with_mask(at::ones({1, 5}, at::kBool)), "(2, 5) at inner"},
        Case{with_mask(at::full({2, 5}, 2)), "the mask 'mask' has to be of 0 and 1"},
        Case{with_mask(at::ones({5}, at::kBool)), "has to be of shape (B, P), but got (5)"},
        Case{"--mask input0 --inputs " + inputs_, "the mask 'input0' has to be of 0 and 1"},
        Case{"--mask input7 --inputs " + inputs_, "has no tensor 'input7' (nearest: input"}}) {
    SCOPED_TRACE(each.options);
    const ProgramRun refused = attribute(each.options);
    EXPECT_NE(refused.status, 0);
    EXPECT_NE(refused.err.find(each.message), std::string::npos) << refused.err;
    EXPECT_EQ(refused.out, "");
  }
}

// At sites of other positions all of them count, which the result says.
TEST_F(UseTest, SaysWhereAMaskIsNotUsed) {
  const ProgramRun done = attribute(with_mask(kept_));
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_NE(done.err.find("not used at: pooled"), std::string::npos) << done.err;
  for (const json& site : json::parse(done.out)["sites"]) {
    EXPECT_EQ(site["masked"], site["name"] == "inner") << site;
  }
}

TEST_F(UseTest, ScoreFilesSayWhatMadeThem) {
  const ProgramRun done =
      attribute("--sites inner --baseline mean --seed 3 --mask input1 --inputs " + inputs_);
  ASSERT_EQ(done.status, 0) << done.err;
  const auto metadata = load_safetensors(scores_).metadata;
  const std::map<std::string, std::string> expected = {
      {"diffmask", version()},
      {"model", load_script(model_)->fingerprint()},
      {"model_file", model_},
      {"inputs_file", inputs_},
      {"output", ""},
      {"output_kind", ""},
      {"mask", "input1"},
      {"sites", R"(["inner"])"},
      {"method", "gradient_x_input"},
      {"target", "1"},
      {"baseline", "mean"},
      {"seed", "3"}};
  EXPECT_EQ(metadata, expected);
  const json summary = json::parse(done.out);
  for (const auto& [key, value] : expected) {
    if (key == "sites") continue;
    EXPECT_EQ(summary[key].is_string() ? summary[key].get<std::string>() : summary[key].dump(),
              value)
        << key;
  }
}

TEST_F(UseTest, ExitCodes) {
  const std::string broken = folder_ / "broken.pt", none = folder_ / "none.safetensors";
  write_file(broken, "no model");
  save_safetensors(none, {{"x", x_}});
  torch::jit::Module training("Net");
  training.register_attribute("training", c10::BoolType::get(), true);
  training.define("def forward(self, x):\n  return torch.dropout(x, 0.5, self.training)\n");
  training.save(folder_ / "training.pt");
  const std::string inputs = " --inputs " + inputs_,
                    wanted = "attribute " + model_ + inputs + " --out " + scores_;
  struct Case {
    int status;
    std::string arguments;
  };
  for (const Case& each : std::vector<Case>{
           {0, "--help"},
           {0, "attribute --help"},
           {0, "--version"},
           {0, "sites " + model_},
           {0, "check " + model_ + inputs},
           {0, wanted + " --method lrp --sites inner"},
           {1, "sites " + broken},
           {1, "sites " + (folder_ / "training.pt")},
           {1, "check " + model_ + " --inputs " + broken},
           {1, "attribute " + model_ + inputs + " --method lrp --sites inner --out /nowhere/x"},
           {2, ""},
           {2, "explain"},
           {2, "sites"},
           {2, "sites " + (folder_ / "missing.pt")},
           {2, "sites " + model_ + " --no-such-option"},
           {2, "sites " + model_ + " --threads 0"},
           {2, "sites " + model_ + " --threads two"},
           {2, "sites " + model_ + " --sites innr"},
           {2, "sites " + model_ + " --output '[7]'"},
           {2, "sites " + model_ + " --inputs 'float31[2]'"},
           {2, "check " + model_},
           {2, "check " + model_ + " --inputs " + none},
           {2, wanted},
           {2, wanted + " --method lime"},
           {2, wanted + " --method lrp --sites inner --target 7"},
           {2, wanted + " --method lrp --sites inner --baseline none"},
           {2, wanted + " --method lrp --sites inner --mask input0"}}) {
    SCOPED_TRACE(each.arguments);
    const ProgramRun run = this->run(each.arguments);
    EXPECT_EQ(run.status, each.status) << run.out << run.err;
    if (each.status == 0) continue;
    EXPECT_EQ(run.out, "") << "nothing is printed before an error";
    EXPECT_NE(run.err, "");
  }
  for (const std::string help : {"--help", "check --help"}) {
    EXPECT_NE(run(help).out.find("2 for arguments that are wrong"), std::string::npos);
  }
  EXPECT_EQ(run("--version").out, version() + "\n");
}

// Where LibTorch's threads are GNU's, they say what they read.
TEST_F(UseTest, WaitingThreadsSpinBriefly) {
  const auto spins = [&](const std::string& variable) {
    const std::string text = run("--version", "OMP_DISPLAY_ENV=verbose " + variable).err;
    const size_t at = text.find("GOMP_SPINCOUNT = '");
    return at == std::string::npos ? "" : text.substr(at + 18, text.find('\'', at + 18) - at - 18);
  };
  if (spins("").empty()) GTEST_SKIP() << "no libgomp";
  EXPECT_EQ(spins(""), "1000");
  EXPECT_EQ(spins("GOMP_SPINCOUNT=77"), "77");
  EXPECT_EQ(spins("OMP_WAIT_POLICY=passive"), "0");
}

}  // namespace
}  // namespace diffmask
