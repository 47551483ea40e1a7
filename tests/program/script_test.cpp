#include "diffmask/program/script.hpp"

#include <gtest/gtest.h>
#include <torch/script.h>

#include <thread>

#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"
#include "tests/program/script_modules.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask::script_test {
namespace {

torch::jit::Module relu() {
  return module("ReLU", "def forward(self, x):\n  return torch.relu_(x)\n");
}

struct Case {
  std::string name;
  torch::jit::Module module;
  std::vector<std::string> sites;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  all.push_back(
      {"chain with in-place",
       module(
           "Net",
           "def forward(self, x):\n  return self.b.forward(self.act.forward(self.a.forward(x)))\n",
           {{"a", linear(4, 5, 1)}, {"act", relu()}, {"b", linear(5, 3, 2)}}),
       {"a", "act", "b"}});
  all.push_back(
      {"one module twice",
       module("Net",
              "def forward(self, x):\n  h = self.a.forward(x)\n  return self.a.forward1(h) + h\n",
              {{"a", linear(4, 4, 1)}}),
       {"a", "a#1"}});
  all.push_back(
      {"nested",
       module("Net", "def forward(self, x):\n  return self.inner.forward(x) * 2\n",
              {{"inner", module("Inner", "def forward(self, x):\n  return self.a.forward(x)\n",
                                {{"a", linear(4, 3, 1)}})}}),
       {"inner.a", "inner"}});
  // The view and its base are both read after the write.
  all.push_back({"slice assigned to",
                 module("Net",
                        "def forward(self, x):\n"
                        "  h = self.a.forward(x)\n"
                        "  first = h[:, 0]\n"
                        "  h[:, 0] = h[:, 1] * 2\n"
                        "  h.add_(1)\n"
                        "  return self.b.forward(h) + first.unsqueeze(1)\n",
                        {{"a", linear(4, 5, 1)}, {"b", linear(5, 3, 2)}}),
                 {"a", "b"}});
  all.push_back({"a residual written into",
                 module("Net",
                        "def forward(self, x):\n"
                        "  h = self.a.forward(x)\n"
                        "  g = self.act.forward(self.b.forward(h))\n"
                        "  g += h\n"
                        "  h.mul_(0.5)\n"
                        "  return g * h\n",
                        {{"a", linear(4, 4, 1)}, {"act", relu()}, {"b", linear(4, 4, 2)}}),
                 {"a", "b", "act"}});
  all.push_back(
      {"tuple",
       module("Net",
              "def forward(self, x):\n"
              "  h, g = self.two.forward(x)\n"
              "  return h * g, h\n",
              {{"two",
                module("Two", "def forward(self, x):\n  return self.a.forward(x), torch.sin(x)\n",
                       {{"a", linear(4, 4, 1)}})}}),
       {"two.a", "two[0]", "two[1]"}});
  all.push_back({"a loop and an if that depends on the data",
                 module("Net",
                        "def forward(self, x):\n"
                        "  h = self.a.forward(x)\n"
                        "  parts = [h]\n"
                        "  for i in range(x.size(0)):\n"
                        "    h = torch.tanh(h + i)\n"
                        "    parts.append(h)\n"
                        "  if bool(h.sum() > 0):\n"
                        "    h = h * 2\n"
                        "  else:\n"
                        "    h.add_(3)\n"
                        "  return self.b.forward(torch.stack(parts).sum(0) + h)\n",
                        {{"a", linear(4, 4, 1)}, {"b", linear(4, 3, 2)}}),
                 {"a", "b"}});
  all.push_back({"an if that is known",
                 module("Net",
                        "def forward(self, x, mask: Optional[Tensor]=None):\n"
                        "  if mask is not None:\n"
                        "    x = x * mask\n"
                        "  if self.training:\n"
                        "    return x\n"
                        "  return self.a.forward(x)\n",
                        {{"a", linear(4, 4, 1)}}),
                 {"a"}});
  // What is unpacked of the list is what the list holds, also after it was written into.
  all.push_back({"a list of pieces read again",
                 module("Net",
                        "def forward(self, x):\n"
                        "  pieces = torch.unsafe_chunk(self.a.forward(x), 2, 1)\n"
                        "  first, second = pieces\n"
                        "  first.sigmoid_()\n"
                        "  pieces[1].mul_(2)\n"
                        "  return torch.cat(pieces, 1) + torch.cat([second, first], 1)\n",
                        {{"a", linear(4, 4, 1)}}),
                 {"a"}});
  return all;
}

at::Tensor first_tensor(const c10::IValue& value) {
  return value.isTuple() ? value.toTuple()->elements()[0].toTensor() : value.toTensor();
}

at::Tensor example() { return at::randn({3, 4}, make_generator(7)); }

TEST(ScriptTest, GivesTheModulesOwnOutputAndFindsItsSites) {
  for (Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const auto model = script_model(c.module);
    EXPECT_EQ(model->site_names(), c.sites);
    const at::Tensor x = example(), before = x.clone();
    const at::Tensor expected = first_tensor(c.module.forward({x.clone()}));
    const Recording recording = model->record({x});
    EXPECT_TRUE(recording.output().equal(expected));
    EXPECT_TRUE(x.equal(before));
  }
}

TEST(ScriptTest, ResumesFromEverySiteBitForBit) {
  for (Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const auto model = script_model(c.module);
    const Recording all = model->record({example()});
    for (const std::string& site : c.sites) {
      SCOPED_TRACE(site);
      const at::Tensor state = all.state(site), before = state.clone();
      EXPECT_TRUE(model->resume(all, site, state).equal(all.output()));
      EXPECT_TRUE(state.equal(before));
      // A recording of this site alone, and one of another, serve as well.
      EXPECT_TRUE(
          model->resume(model->record({example()}, {site}), site, state).equal(all.output()));
      const Recording other = model->record({example()}, {c.sites.front()});
      EXPECT_TRUE(model->resume(other, site, state).equal(all.output()));
    }
  }
}

// As if inputs[rows] had been recorded, whatever else a resumed pass reads.
TEST(ScriptTest, SelectsRowsOfARecording) {
  const at::Tensor rows = at::tensor({2, 0, 0, 1, 2}).to(at::kLong);
  for (Case& c : cases()) {
    if (c.name.starts_with("a loop")) continue;  // it counts its rows
    SCOPED_TRACE(c.name);
    const auto model = script_model(c.module);
    const Recording few = model->record({example()});
    const Recording all = model->record({example().index_select(0, rows)});
    for (const std::string& site : c.sites) {
      SCOPED_TRACE(site);
      const Recording selected = model->select_rows(few, rows, {site});
      EXPECT_TRUE(at::allclose(selected.output(), all.output()));
      EXPECT_TRUE(at::allclose(selected.state(site), all.state(site)));
      const at::Tensor state = at::randn(all.state(site).sizes(), make_generator(8));
      EXPECT_TRUE(
          at::allclose(model->resume(selected, site, state), model->resume(all, site, state)));
    }
    const Recording every = model->select_rows(few, rows, c.sites);
    EXPECT_TRUE(at::allclose(model->resume(every, c.sites.back(), every.state(c.sites.back())),
                             all.output()));
  }
}

// Central differences of sum(output * weights) in double precision.
TEST(ScriptTest, GradientsFlowToEverySite) {
  for (Case& c : cases()) {
    SCOPED_TRACE(c.name);
    c.module.to(at::kDouble);
    const auto model = script_model(c.module);
    const Recording recording = model->record({example().to(at::kDouble)});
    const at::Tensor weights =
        at::randn(recording.output().sizes(), make_generator(3), at::kDouble);
    for (const std::string& site : c.sites) {
      SCOPED_TRACE(site);
      const at::Tensor state = recording.state(site).clone().requires_grad_(true);
      const auto value = [&](const at::Tensor& h) {
        return (model->resume(recording, site, h) * weights).sum();
      };
      const at::Tensor output = value(state);
      ASSERT_TRUE(output.requires_grad());
      const at::Tensor gradient = torch::autograd::grad({output}, {state})[0];
      const at::Tensor direction = at::randn(state.sizes(), make_generator(4), at::kDouble);
      at::NoGradGuard no_grad;
      const double step = 1e-6;
      const double difference =
          (value(state + step * direction) - value(state - step * direction)).item<double>() /
          (2 * step);
      EXPECT_NEAR((gradient * direction).sum().item<double>(), difference,
                  1e-6 * std::max(1.0, std::abs(difference)));
    }
  }
}

TEST(ScriptTest, AReplacedStateReachesWhatDependsOnItOnly) {
  const auto model = script_model(cases()[1].module);  // h = a(x); a(h) + h
  const Recording recording = model->record({example()});
  const at::Tensor h = recording.state("a") + 1;
  const auto weights = model->tensors();
  const at::Tensor expected = at::matmul(h, weights.at("a.w")) + weights.at("a.b") + h;
  EXPECT_TRUE(model->resume(recording, "a", h).equal(expected.detach()));
  const at::Tensor other = at::ones({3, 4});
  EXPECT_TRUE(model->resume(recording, {{"a#1", other}, {"a", h}}).equal(other + h));
}

TEST(ScriptTest, LeavesTheModuleAsItIs) {
  for (Case& c : cases()) {
    SCOPED_TRACE(c.name);
    std::vector<at::Tensor> before;
    for (const auto& parameter : c.module.parameters())
      before.push_back(parameter.detach().clone());
    const auto model = script_model(c.module);
    EXPECT_EQ(model->tensors().size(), before.size());
    const std::string fingerprint = model->fingerprint();
    const Recording recording = model->record({example()});
    const std::string site = c.sites[0];
    model->resume(recording, site, recording.state(site).clone().requires_grad_(true))
        .sum()
        .backward();
    size_t i = 0;
    for (const auto& parameter : c.module.parameters()) {
      EXPECT_TRUE(parameter.equal(before[i++]));
      EXPECT_FALSE(parameter.grad().defined());
      EXPECT_TRUE(parameter.requires_grad());
    }
    EXPECT_EQ(model->fingerprint(), fingerprint);
  }
}

TEST(ScriptTest, OutputsAndModuleInputsCanBeChosen) {
  const Case tuple = cases()[5];
  const Recording first = script_model(tuple.module)->record({example()});
  const Recording second = script_model(tuple.module, {.output = "[1]"})->record({example()});
  EXPECT_TRUE(second.output().equal(first.state("two[0]")));
  // What `first` writes into is read again after it: this input is no site.
  const auto around = module("Net",
                             "def forward(self, x):\n  h = x * 2\n  g = self.act.forward(h)\n"
                             "  return h + g\n",
                             {{"act", relu()}});
  const auto no_input = script_model(around, {.module_inputs = true});
  EXPECT_EQ(no_input->site_names(), std::vector<std::string>{"act"});
  EXPECT_TRUE(no_input->record({example()}).output().equal((example() * 2).relu() * 2));
  const auto tapped = script_model(cases()[0].module, {.module_inputs = true});
  EXPECT_EQ(tapped->site_names(),
            (std::vector<std::string>{"a:input", "a", "act:input", "act", "b:input", "b"}));
  const Recording recording = tapped->record({example()});
  EXPECT_TRUE(recording.state("a:input").equal(example()));
  EXPECT_TRUE(recording.state("b:input").equal(recording.state("a").relu()));
  EXPECT_TRUE(recording.state("act:input").equal(recording.state("a")));
  EXPECT_EQ(tapped->sites()[1].type, "Linear");
}

TEST(ScriptTest, SelectsSites) {
  const auto model = script_model(cases()[2].module);
  using Names = std::vector<std::string>;
  EXPECT_EQ(model->select("*"), Names{"inner"});
  EXPECT_EQ(model->select("**"), (Names{"inner.a", "inner"}));
  EXPECT_EQ(model->select("inner.?"), Names{"inner.a"});
  EXPECT_EQ(model->select_regex("inner(\\.a)?"), (Names{"inner.a", "inner"}));
  expect_refused({
      {"pattern", [&] { model->select("iner"); },
       "sites has to be a pattern that some site matches, but got 'iner' (nearest: inner"},
      {"expression", [&] { model->select_regex("b+"); }, "a regular expression that some site"},
      {"no expression", [&] { model->select_regex("("); },
       "sites has to be a regular expression ("},
  });
  const auto tuple = script_model(cases()[5].module);
  EXPECT_EQ(tuple->select("two[*]"), (Names{"two[0]", "two[1]"}));
}

TEST(ScriptTest, ThreadsShareAProgram) {
  const auto model = script_model(cases()[3].module);
  const Recording expected = model->record({example()});
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        const Recording recording = model->record({example()});
        if (!model->resume(recording, "a", recording.state("a")).equal(expected.output())) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(ScriptTest, LoadsArchives) {
  const TemporaryFolder folder;
  const std::string path = folder / "model.pt";
  Case c = cases()[0];
  c.module.save(path);
  const Recording recording = load_script(path)->record({example()});
  EXPECT_TRUE(recording.output().equal(c.module.forward({example()}).toTensor()));
}

TEST(ScriptTest, RefusesBadInput) {
  const TemporaryFolder folder;
  const auto model = script_model(cases()[0].module);
  // A branch that no operator shows to be one of training.
  const std::string branch = "def forward(self, x):\n  return x * 2 if self.training else x\n";
  auto training = module("Net", branch);
  training.setattr("training", true);
  const auto text = module("Net", "def forward(self, x, n: str):\n  return x + len(n)\n");
  write_file(folder / "text.pt", "no archive");
  cases()[0].module.save(folder / "cut.pt");
  try {
    model->record({at::zeros({3, 5})});
    ADD_FAILURE() << "a shape that does not fit";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("aten::matmul"), std::string::npos) << error.what();
  }
  const std::string bytes = read_file(folder / "cut.pt");
  write_file(folder / "cut.pt", bytes.substr(0, bytes.size() / 2));
  expect_refused({
      {"training mode", [&] { script_model(training); },
       "training mode, on which aten::mul in the model itself depends (set in the model itself)"},
      {"an input that is a text", [&] { script_model(text); }, "or to have a default, but got str"},
      {"method", [&] { script_model(text, {.method = "forwards"}); },
       "method has to be one of the model's, but got 'forwards' (nearest: forward"},
      {"two inputs",
       [&] {
         model->record({example(), example()});
       },
       "inputs has to be 1 (x), but got 2"},
      {"output", [&] { script_model(cases()[5].module, {.output = "[2]"}); },
       "output has to be one of the model's, but got '[2]' (nearest: [0], [1]"},
  });
  expect_refused<FileError>({
      {"no file", [&] { load_script(folder / "none.pt"); }, "none.pt: cannot be opened"},
      {"no archive", [&] { load_script(folder / "text.pt"); }, "text.pt: is no zip archive"},
      {"cut", [&] { load_script(folder / "cut.pt"); }, "cut.pt: is no zip archive"},
  });
}

}  // namespace
}  // namespace diffmask::script_test
