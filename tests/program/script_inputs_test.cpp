// What TorchScript models take, fill and fork.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/program/script.hpp"
#include "tests/bad_input.hpp"
#include "tests/program/script_modules.hpp"

namespace diffmask::script_inputs_test {
namespace {

at::Tensor example(uint64_t seed = 7) { return at::randn({3, 4}, make_generator(seed)); }

at::Tensor output_of(const torch::jit::Module& net, const Inputs& inputs) {
  const auto model = script_model(net, {.given = static_cast<int64_t>(inputs.size())});
  return model->record(inputs).output();
}

// "(x, mask)", as an error names them.
std::string names_of(const torch::jit::Module& net, int64_t given = -1) {
  try {
    script_model(net, {.given = given})->record(Inputs(9, at::zeros({1})));
  } catch (const ArgumentError& error) {
    const std::string text = error.what();
    return text.substr(text.find('('), text.find(')') - text.find('(') + 1);
  }
  return "";
}

using Names = std::vector<std::string>;

TEST(ScriptInputsTest, OptionalInputsAreFilledInOrder) {
  const auto net =
      module("Net",
             "def forward(self, x, mask: Optional[Tensor] = None, scale: float = 2.0):\n"
             "  if mask is not None:\n    x = x * mask\n  return x * scale\n");
  const at::Tensor x = example(), mask = x > 0;
  EXPECT_TRUE(output_of(net, {x}).equal(x * 2));
  EXPECT_TRUE(output_of(net, {x, mask}).equal(x * mask * 2));
  EXPECT_TRUE(output_of(net, {x, mask, at::scalar_tensor(3.0)}).equal(x * mask * 3));
  EXPECT_EQ(names_of(net), "(x)");
  EXPECT_EQ(names_of(net, 2), "(x, mask)");
  expect_refused({{"too many",
                   [&] {
                     output_of(net, {x, mask, at::scalar_tensor(3.0), x});
                   },
                   "inputs has to be 3 (x, mask, scale), but got 4"}});
}

TEST(ScriptInputsTest, NumbersListsTuplesAndDictionariesAreTaken) {
  const at::Tensor x = example(1), y = example(2), z = example(3);
  const auto numbers = module("Net",
                              "def forward(self, x, n: int, w: List[float], last: bool):\n"
                              "  return x * n + w[0] - w[1] if last else x\n");
  EXPECT_TRUE(output_of(numbers, {x, at::scalar_tensor(3, at::kLong),
                                  at::tensor(std::vector<double>{1.5, 0.25}),
                                  at::scalar_tensor(true, at::kBool)})
                  .equal(x * 3 + 1.5 - 0.25));
  const auto list = module("Net",
                           "def forward(self, xs: List[Tensor], y):\n"
                           "  total = y\n  for x in xs:\n    total = total * x\n"
                           "  return total + len(xs)\n");
  EXPECT_TRUE(output_of(list, {x, z, y}).equal(y * x * z + 2));
  EXPECT_EQ(names_of(list, 3), "(xs[0], xs[1], y)");
  const auto tuple = module("Net",
                            "def forward(self, p: Tuple[Tensor, Tuple[Tensor, Tensor]]):\n"
                            "  a, b = p\n  return a * b[0] - b[1]\n");
  EXPECT_TRUE(output_of(tuple, {x, y, z}).equal(x * y - z));
  const auto dictionary = module("Net",
                                 "def forward(self, d: Dict[str, Tensor]):\n"
                                 "  h = d['first'] - d['second']\n"
                                 "  if 'third' in d:\n    h = h * d['third']\n  return h\n");
  EXPECT_EQ(names_of(dictionary, 3), "(d[first], d[second], d[third])");
  EXPECT_TRUE(output_of(dictionary, {x, y, z}).equal((x - y) * z));
  expect_refused({{"a list of no length", [&] { script_model(list); },
                   "input 'xs' has to be of a known length"}});
}

TEST(ScriptInputsTest, ContainersFilledOneByOneAreKnown) {
  const at::Tensor x = example();
  const auto filled = module("Net",
                             "def forward(self, x):\n"
                             "  out: Dict[str, Tensor] = {}\n"
                             "  out['hidden'] = self.a.forward(x)\n"
                             "  out['logits'] = torch.tanh(out['hidden'])\n"
                             "  out['hidden'] = out['hidden'] * 2\n"
                             "  return out\n",
                             {{"a", linear(4, 3, 1)}});
  const auto hidden = script_model(filled, {.output = "[hidden]"})->record({x});
  const auto logits = script_model(filled, {.output = "[logits]"})->record({x});
  EXPECT_TRUE(hidden.output().equal(hidden.state("a") * 2));
  EXPECT_TRUE(logits.output().equal(hidden.state("a").tanh()));
  // A list that a loop adds to, and which is read before and after.
  const auto appended = module("Net",
                               "def forward(self, x):\n"
                               "  parts = [x]\n  parts.append(x * 2)\n"
                               "  first = torch.stack(parts).sum(0)\n"
                               "  for i in range(x.size(0)):\n    parts.append(x + i)\n"
                               "  return torch.stack(parts).sum(0) + first\n");
  EXPECT_TRUE(at::allclose(output_of(appended, {x}), x * 9 + 3));
}

TEST(ScriptInputsTest, OtherMethodsCanBeExplained) {
  const auto net = module("Net",
                          "def forward(self, x):\n  return self.a.forward(x)\n"
                          "def encode(self, x):\n  return torch.tanh(self.a.forward(x))\n",
                          {{"a", linear(4, 3, 1)}});
  const Recording recording = script_model(net, {.method = "encode"})->record({example()});
  EXPECT_TRUE(recording.output().equal(recording.state("a").tanh()));
}

// The call of this child as torch.jit.fork and wait have it: a graph of its own, and a future.
void fork_call(const torch::jit::Module& net, const std::string& child) {
  using namespace torch::jit;
  Graph& graph = *net.get_method("forward").graph();
  for (Node* call : graph.nodes()) {
    if (call->kind() != prim::CallMethod || call->input(0)->node()->kind() != prim::GetAttr ||
        call->input(0)->node()->s(attr::name) != child) {
      continue;
    }
    const auto forked = std::make_shared<Graph>();
    std::vector<Value*> inputs;
    for (const Value* input : call->inputs()) {
      inputs.push_back(forked->addInput()->setType(input->type()));
    }
    Node* inside = forked->insertNode(forked->create(prim::CallMethod, inputs));
    inside->s_(attr::name, call->s(attr::name));
    inside->output()->setType(call->output()->type());
    forked->registerOutput(inside->output());
    Node* fork = graph.create(prim::fork, call->inputs())->insertBefore(call);
    fork->g_(attr::Subgraph, forked);
    fork->output()->setType(c10::FutureType::create(call->output()->type()));
    Node* wait = graph.create(aten::wait, {fork->output()})->insertAfter(call);
    wait->output()->setType(call->output()->type());
    call->output()->replaceAllUsesWith(wait->output());
    call->destroy();
    return;
  }
}

// What runs side by side gives what it gives one after another, at every site.
TEST(ScriptInputsTest, ForkedPartsAreFollowed) {
  auto net = module("Net",
                    "def forward(self, x):\n  h = self.a.forward(x)\n"
                    "  one = self.b.forward(h)\n  two = torch.tanh(self.c.forward(h))\n"
                    "  return one * two\n",
                    {{"a", linear(4, 4, 1)}, {"b", linear(4, 3, 2)}, {"c", linear(4, 3, 3)}});
  std::vector<at::Tensor> expected;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    expected.push_back(net.forward({example(seed)}).toTensor().detach());
  }
  fork_call(net, "b");
  std::stringstream archive;
  net.save(archive);
  const auto model = script_model(torch::jit::load(archive));
  EXPECT_EQ(model->site_names(), (Names{"a", "b", "c"}));
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const Recording recording = model->record({example(seed)});
    ASSERT_TRUE(recording.output().equal(expected[seed]));
    const at::Tensor leaf = recording.state("b").clone().requires_grad_(true);
    model->resume(recording, "b", leaf).sum().backward();
    ASSERT_TRUE(leaf.grad().equal(recording.state("c").tanh()));
  }
}

// Two branches read the input, and one writes into a copy of it.
TEST(ScriptInputsTest, InputsAreSites) {
  const auto net =
      module("Net", "def forward(self, x, y):\n  return self.a.forward(x) + x.relu() * y\n",
             {{"a", linear(4, 4, 1)}});
  EXPECT_EQ(script_model(net)->site_names(), Names{"a"});
  const auto model = script_model(net, {.inputs = true});
  EXPECT_EQ(model->site_names(), (Names{"input0", "input1", "a"}));
  EXPECT_TRUE(model->site("input0").is_input);
  const at::Tensor x = example(1), y = example(2), other = example(3);
  const Recording recording = model->record({x, y});
  EXPECT_TRUE(recording.state("input0").equal(x));
  EXPECT_TRUE(model->resume(recording, "input0", x).equal(recording.output()));
  EXPECT_TRUE(model->resume(recording, "input0", other).equal(model->record({other, y}).output()));
  const at::Tensor leaf = x.clone().requires_grad_(true);
  EXPECT_TRUE(model->resume(recording, "input0", leaf).requires_grad());
  // A model without modules has no other sites; the file's input is not written into.
  const auto bare = script_model(module("Net", "def forward(self, x):\n  return x.mul_(2)\n"));
  EXPECT_EQ(bare->site_names(), Names{"input0"});
  const Recording doubled = bare->record({x});
  EXPECT_TRUE(doubled.state("input0").equal(x));
  EXPECT_TRUE(bare->resume(doubled, "input0", other).equal(other * 2));
}

TEST(ScriptInputsTest, KnowsWhatNoInputChanges) {
  const auto table = module("Table", "def forward(self, x):\n  return self.w[:x.size(1)]\n", {},
                            {{"w", at::ones({9, 2})}});
  const auto net = module("Net",
                          "def forward(self, x):\n"
                          "  return self.a.forward(x).sum() + self.table.forward(x)\n",
                          {{"a", linear(4, 4, 1)}, {"table", table}});
  const auto model = script_model(net);
  EXPECT_FALSE(model->site("a").is_fixed);
  EXPECT_TRUE(model->site("table").is_fixed);
}

}  // namespace
}  // namespace diffmask::script_inputs_test
