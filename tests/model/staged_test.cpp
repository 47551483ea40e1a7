#include "diffmask/model/staged.hpp"

#include <gtest/gtest.h>

#include "tests/bad_input.hpp"
#include "tests/model/example_models.hpp"

namespace diffmask {
namespace {

at::Tensor same(const at::Tensor& x, const Inputs&) { return x; }

TEST(StagedModelTest, TakesASequentialApart) {
  at::manual_seed(2);
  auto layers = example_layers(at::kFloat);
  const auto model = StagedModel::from(layers.ptr());
  EXPECT_EQ(model->site_names(), (std::vector<std::string>{"0", "1", "2", "3", "4", "5"}));
  EXPECT_EQ(model->site("4").depth, 4);
  const at::Tensor x = at::randn({5, 3});
  const Recording recording = model->record({x});
  EXPECT_TRUE(recording.output().equal(layers->forward(x)));
  // Before the in-place rectifier and after it.
  EXPECT_LT(recording.state("0").min().item<float>(), 0);
  EXPECT_TRUE(recording.state("1").equal(recording.state("0").relu()));
}

TEST(StagedModelTest, RunsOnlyTheLaterStages) {
  std::vector<int> runs(3);
  std::vector<Stage> stages;
  for (size_t i = 0; i < runs.size(); ++i) {
    stages.push_back({fmt::format("s{}", i), [&runs, i](const at::Tensor& x, const Inputs&) {
                        ++runs[i];
                        return x + 1;
                      }});
  }
  const auto module = std::make_shared<torch::nn::IdentityImpl>();
  module->eval();
  const StagedModel model(module, stages);
  const Recording recording = model.record({at::zeros({2})});
  EXPECT_TRUE(recording.output().equal(at::full({2}, 3.0)));
  EXPECT_TRUE(model.resume(recording, "s1", at::full({2}, 10.0)).equal(at::full({2}, 11.0)));
  EXPECT_EQ(runs, (std::vector<int>{1, 1, 2}));
}

TEST(StagedModelTest, TakesTheShortWayWhereNoLaterStateIsAskedFor) {
  const auto module = std::make_shared<torch::nn::IdentityImpl>();
  module->eval();
  const auto add = [](double what) {
    return [what](const at::Tensor& x, const Inputs&) { return x + what; };
  };
  // The short way differs by 100, to be told apart.
  const StagedModel model(module, {{"a", add(1)}, {"b", add(2), add(106)}, {"c", add(4)}});
  const Inputs inputs = {at::zeros({2})};
  EXPECT_TRUE(model.record(inputs).output().equal(at::full({2}, 7.0)));
  EXPECT_TRUE(model.record(inputs, {"b"}).output().equal(at::full({2}, 7.0)));
  const Recording recording = model.record(inputs, {"a"});
  EXPECT_TRUE(recording.output().equal(at::full({2}, 107.0)));
  const at::Tensor state = at::zeros({2});
  EXPECT_TRUE(model.resume(recording, "a", state).equal(at::full({2}, 106.0)));
  EXPECT_TRUE(model.resume(recording, "b", state).equal(at::full({2}, 4.0)));
  EXPECT_TRUE(model.resume(recording, {{"a", state}, {"b", state}}).equal(at::full({2}, 4.0)));
}

TEST(StagedModelTest, RefusesBadInput) {
  const auto module = std::make_shared<torch::nn::IdentityImpl>();
  module->eval();
  const auto training = std::make_shared<torch::nn::IdentityImpl>();
  const auto make = [](std::shared_ptr<torch::nn::Module> module, std::vector<Stage> stages) {
    return [=] { StagedModel(module, stages); };
  };
  const std::vector<Stage> good = {{"a", same}, {"b", same}};
  EXPECT_NO_THROW(make(module, good)());
  expect_refused({
      {"no module", make(nullptr, good), "module has to be a module, but got a null pointer"},
      {"training mode", make(training, good), "model has to be in evaluation mode"},
      {"no stage", make(module, {}), "stages has to be two or more, but got 0"},
      {"one stage", make(module, {{"a", same}}), "but got 1"},
      {"empty name", make(module, {{"a", same}, {"", same}}), "a stage's name has to be not empty"},
      {"name twice", make(module, {{"a", same}, {"a", same}}), "used once, but got 'a' twice"},
      {"no function", make(module, {{"a", same}, {"b", nullptr}}),
       "stage 'b' has to be a function"},
      {"no sequential", [] { StagedModel::from(nullptr); }, "sequential has to be a module"},
  });
}

TEST(StagedModelTest, RefusesAModelThatWritesIntoItsInputs) {
  const auto module = std::make_shared<torch::nn::IdentityImpl>();
  module->eval();
  const StagedModel model(module,
                          {{"a", same}, {"b", [](const at::Tensor& x, const Inputs& inputs) {
                                           inputs[1].add_(1);
                                           return x;
                                         }}});
  const at::Tensor x = at::zeros({2});
  expect_refused({{"in place",
                   [&] {
                     model.record({x, x});
                   },
                   "inputs[1] has to be left as it is"}});
  EXPECT_TRUE(x.equal(at::zeros({2})));
}

}  // namespace
}  // namespace diffmask
