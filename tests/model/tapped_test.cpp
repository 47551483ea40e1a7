#include "diffmask/model/tapped.hpp"

#include <gtest/gtest.h>

#include "tests/bad_input.hpp"
#include "tests/model/example_models.hpp"

namespace diffmask {
namespace {

TEST(TappedModelTest, NumbersANameTappedAgain) {
  const ExampleModel tapped = example_models().at(2);
  EXPECT_EQ(tapped.model->site_names(),
            (std::vector<std::string>{"first", "layer", "layer#1", "last"}));
  for (int64_t depth = 0; depth < 4; ++depth) EXPECT_EQ(tapped.model->sites()[depth].depth, depth);
  const Recording recording = tapped.model->record(tapped.inputs);
  EXPECT_FALSE(recording.state("layer").equal(recording.state("layer#1")));
  // Each call has numbers of its own: a second pass finds the same sites.
  EXPECT_TRUE(
      tapped.model->record(tapped.inputs).state("layer#1").equal(recording.state("layer#1")));
}

TEST(TappedModelTest, RunsWhatComesBeforeTheSiteWithoutAGraph) {
  const ExampleModel tapped = example_models().at(2);
  const Recording recording = tapped.model->record(tapped.inputs);
  const auto tensors = tapped.model->tensors();
  const at::Tensor state = recording.state("layer#1").clone().requires_grad_(true);
  const at::Tensor output = tapped.model->resume(recording, "layer#1", state).sum();
  const auto gradients = torch::autograd::grad(
      {output}, {tensors.at("0.weight"), tensors.at("4.weight"), tensors.at("6.weight"), state}, {},
      /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
  EXPECT_FALSE(gradients[0].defined());
  EXPECT_FALSE(gradients[1].defined());
  EXPECT_TRUE(gradients[2].defined());
  EXPECT_TRUE(gradients[3].defined());
}

TEST(TappedModelTest, RefusesBadInput) {
  const auto module = std::make_shared<torch::nn::IdentityImpl>();
  module->eval();
  const auto training = std::make_shared<torch::nn::IdentityImpl>();
  const Inputs x = {at::zeros({2})};
  const auto good = [](const Inputs& inputs, Tap& tap) { return tap("a", inputs[0] + 1); };
  const auto silent = [](const Inputs& inputs, Tap&) { return inputs[0] + 1; };
  EXPECT_NO_THROW(TappedModel(module, good, x));
  expect_refused({
      {"no module", [&] { TappedModel(nullptr, good, x); }, "module has to be a module"},
      {"training mode", [&] { TappedModel(training, good, x); }, "in evaluation mode"},
      {"no forward", [&] { TappedModel(module, nullptr, x); }, "forward has to be a function"},
      {"no tap", [&] { TappedModel(module, silent, x); }, "that calls tap(name, state)"},
  });
  const TappedModel chooser(
      module,
      [](const Inputs& inputs, Tap& tap) {
        return inputs[0].sum().item<float>() > 0 ? inputs[0] * 1 : tap("a", inputs[0] + 1);
      },
      x);
  const Recording passed_by = chooser.record({at::ones({2})});
  expect_refused({{"passed by", [&] { chooser.resume(passed_by, "a", at::ones({2})); },
                   "site has to be reached by the model on these inputs, but got 'a'"}});
  const TappedModel writer(module,
                           [](const Inputs& inputs, Tap& tap) {
                             inputs[0].add_(1);
                             return tap("a", inputs[0] * 1);
                           },
                           {at::zeros({2})});
  expect_refused({{"in place", [&] { writer.record(x); }, "inputs[0] has to be left as it is"}});
  EXPECT_TRUE(x[0].equal(at::zeros({2})));
}

}  // namespace
}  // namespace diffmask
