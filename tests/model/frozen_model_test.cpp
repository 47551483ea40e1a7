#include "diffmask/model/frozen_model.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "diffmask/core/shape.hpp"
#include "tests/bad_input.hpp"
#include "tests/finite_difference.hpp"
#include "tests/model/example_models.hpp"

namespace diffmask {
namespace {

// Everything about a module that explaining it must not change.
class Snapshot {
 public:
  explicit Snapshot(const ExampleModel& example) : example_(example) {
    for (const auto& [name, tensor] : example.model->tensors()) {
      tensors_[name] = {tensor.detach().clone(), tensor.requires_grad(), tensor._version()};
    }
    for (const auto& module : example.module->modules()) training_.push_back(module->is_training());
    for (const at::Tensor& input : example.inputs) inputs_.push_back(input.clone());
  }

  void expect_unchanged() const {
    const auto now = example_.model->tensors();
    ASSERT_EQ(now.size(), tensors_.size());
    for (const auto& [name, tensor] : now) {
      const auto& [value, requires_grad, version] = tensors_.at(name);
      EXPECT_TRUE(tensor.equal(value)) << name;
      EXPECT_EQ(tensor.requires_grad(), requires_grad) << name;
      EXPECT_EQ(tensor._version(), version) << name << " was written to";
      EXPECT_FALSE(tensor.grad().defined()) << name;
    }
    std::vector<bool> training;
    for (const auto& module : example_.module->modules()) training.push_back(module->is_training());
    EXPECT_EQ(training, training_);
    for (size_t i = 0; i < inputs_.size(); ++i) EXPECT_TRUE(example_.inputs[i].equal(inputs_[i]));
    EXPECT_TRUE(at::GradMode::is_enabled());
  }

 private:
  struct Kept {
    at::Tensor value;
    bool requires_grad;
    int64_t version;
  };
  const ExampleModel& example_;
  std::map<std::string, Kept> tensors_;
  std::vector<bool> training_;
  Inputs inputs_;
};

TEST(FrozenModelTest, ResumingWithTheRecordedStateGivesTheOutputBitForBit) {
  for (const ExampleModel& example : example_models()) {
    const Recording recording = example.model->record(example.inputs);
    EXPECT_FALSE(recording.output().requires_grad());
    for (const std::string& site : example.model->site_names()) {
      SCOPED_TRACE(example.kind + " at " + site);
      const at::Tensor state = recording.state(site);
      EXPECT_FALSE(state.requires_grad());
      const at::Tensor kept = state.clone(), output = example.model->resume(recording, site, state);
      EXPECT_TRUE(output.equal(recording.output()));
      EXPECT_TRUE(state.equal(kept)) << "the state was written to";
      EXPECT_FALSE(example.model->resume(recording, site, state + 1).equal(output));
    }
  }
}

TEST(FrozenModelTest, RecordsTheSitesAskedFor) {
  for (const ExampleModel& example : example_models()) {
    SCOPED_TRACE(example.kind);
    const std::string wanted = example.model->site_names().at(1);
    const Recording one = example.model->record(example.inputs, {wanted});
    const Recording all = example.model->record(example.inputs);
    for (const std::string& site : example.model->site_names()) {
      EXPECT_TRUE(all.has(site));
      EXPECT_EQ(one.has(site), site == wanted);
    }
    EXPECT_TRUE(one.state(wanted).equal(all.state(wanted)));
    EXPECT_TRUE(one.output().equal(all.output()));
    // A site that was not recorded can be replaced all the same.
    const std::string other = example.model->site_names().at(2);
    EXPECT_TRUE(example.model->resume(one, other, all.state(other)).equal(all.output()));
  }
}

TEST(FrozenModelTest, ARecordingIsAValue) {
  for (const ExampleModel& example : example_models()) {
    SCOPED_TRACE(example.kind);
    Inputs inputs;
    for (const at::Tensor& input : example.inputs) inputs.push_back(input.clone());
    const Recording recording = example.model->record(inputs);
    const at::Tensor output = recording.output().clone();
    for (const at::Tensor& input : inputs) input.fill_(7);  // the caller's to change
    const std::string first = example.model->site_names().at(0);
    EXPECT_TRUE(example.model->resume(recording, first, recording.state(first)).equal(output));
  }
}

TEST(FrozenModelTest, GradientsFlowToTheState) {
  for (const ExampleModel& example : example_models(at::kDouble)) {
    const Recording recording = example.model->record(example.inputs);
    for (const std::string& site : example.model->site_names()) {
      SCOPED_TRACE(example.kind + " at " + site);
      expect_gradient(
          [&](const at::Tensor& state) {
            return example.model->resume(recording, site, state).square().sum();
          },
          recording.state(site) + 0.01);  // off zero, where a rectified state has its kink
    }
  }
}

TEST(FrozenModelTest, ReplacesSeveralStatesAtOnce) {
  for (const ExampleModel& example : example_models()) {
    SCOPED_TRACE(example.kind);
    const Recording recording = example.model->record(example.inputs);
    const std::string low = example.model->site_names().at(0);
    const std::string high = example.model->site_names().at(2);
    const at::Tensor other = recording.state(high) + 0.5;
    // The higher replacement hides the lower one: all that follows depends on it alone.
    const auto expected = example.model->resume(recording, high, other);
    EXPECT_TRUE(expected.equal(
        example.model->resume(recording, {{high, other}, {low, recording.state(low) * 2}})));
    EXPECT_FALSE(expected.equal(recording.output()));
  }
}

TEST(FrozenModelTest, LeavesTheModelAsItIs) {
  for (const ExampleModel& example : example_models()) {
    SCOPED_TRACE(example.kind);
    const Snapshot before(example);
    const Recording recording = example.model->record(example.inputs);
    for (const std::string& site : example.model->site_names()) {
      const at::Tensor state = recording.state(site).clone().requires_grad_(true);
      const at::Tensor output = example.model->resume(recording, site, state).sum();
      EXPECT_TRUE(torch::autograd::grad({output}, {state})[0].defined());
    }
    before.expect_unchanged();
  }
}

TEST(FrozenModelTest, LeavesTheModelAsItIsWhenAStageThrows) {
  for (const ExampleModel& example : example_models()) {
    if (example.kind == "sequential") continue;  // its modules do not throw on demand
    SCOPED_TRACE(example.kind);
    const Snapshot before(example);
    const Recording recording = example.model->record(example.inputs);
    *example.fails = true;
    EXPECT_THROW(example.model->record(example.inputs), std::domain_error);
    for (const std::string& site : example.model->site_names()) {
      EXPECT_THROW(example.model->resume(recording, site, recording.state(site)),
                   std::domain_error);
    }
    before.expect_unchanged();
    *example.fails = false;
    EXPECT_TRUE(example.model->record(example.inputs).output().equal(recording.output()));
  }
}

TEST(FrozenModelTest, KeepsTheCallersGradMode) {
  for (const ExampleModel& example : example_models()) {
    SCOPED_TRACE(example.kind);
    const Recording recording = example.model->record(example.inputs);
    const std::string site = example.model->site_names().at(1);
    const at::Tensor state = recording.state(site).clone().requires_grad_(true);
    EXPECT_TRUE(example.model->resume(recording, site, state).requires_grad());
    at::NoGradGuard no_grad;
    EXPECT_FALSE(example.model->resume(recording, site, state).requires_grad());
    EXPECT_FALSE(at::GradMode::is_enabled());
  }
}

TEST(FrozenModelTest, ThreadsShareOneModel) {
  for (const ExampleModel& example : example_models()) {
    SCOPED_TRACE(example.kind);
    // A thread's work: record other inputs, resume at every site, and take gradients there.
    const auto work = [&](int64_t thread, std::vector<at::Tensor>& results) {
      for (int64_t round = 0; round < 10; ++round) {
        Inputs inputs;
        for (const at::Tensor& input : example.inputs) inputs.push_back(input + thread + round);
        const Recording recording = example.model->record(inputs);
        results.push_back(recording.output());
        for (const std::string& site : example.model->site_names()) {
          const at::Tensor state = (recording.state(site) * 0.5).requires_grad_(true);
          const at::Tensor output = example.model->resume(recording, site, state);
          results.push_back(output.detach());
          results.push_back(torch::autograd::grad({output.sum()}, {state})[0]);
        }
      }
    };
    std::vector<std::vector<at::Tensor>> alone(2), together(2);
    for (int64_t i = 0; i < 2; ++i) work(i, alone[i]);
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < 2; ++i) threads.emplace_back([&, i] { work(i, together[i]); });
    for (std::thread& thread : threads) thread.join();
    for (int64_t i = 0; i < 2; ++i) {
      ASSERT_EQ(alone[i].size(), together[i].size());
      for (size_t j = 0; j < alone[i].size(); ++j) EXPECT_TRUE(alone[i][j].equal(together[i][j]));
    }
  }
}

// All that a new kind of model has to write: y = h^2 + x, h = k x at the site "h".
class SquareModel : public FrozenModel {
 public:
  explicit SquareModel(double k) : k_(k) { sites_ = {{"h"}}; }
  std::map<std::string, at::Tensor> tensors() const override { return {}; }

 protected:
  at::Tensor run(Pass& pass) const override {
    return pass.tap("h", pass.inputs[0] * k_).square() + pass.inputs[0];
  }

 private:
  double k_;
};

TEST(FrozenModelTest, ANewKindOfModelWritesOneFunction) {
  const SquareModel model(3);
  const at::Tensor x = at::arange(4).to(at::kFloat), h = at::ones({4});
  const Recording recording = model.record({x});
  EXPECT_TRUE(recording.state("h").equal(3 * x));
  EXPECT_TRUE(recording.output().equal(9 * x * x + x));
  EXPECT_TRUE(model.resume(recording, "h", h).equal(1 + x));
  const at::Tensor rows = at::tensor({3, 3, 1}).to(at::kLong);
  const Recording selected = model.select_rows(recording, rows, {"h"});
  EXPECT_TRUE(selected.output().equal(recording.output().index_select(0, rows)));
  EXPECT_TRUE(model.resume(selected, "h", at::ones({3})).equal(1 + x.index_select(0, rows)));
}

// Nor does it where another model has been made at the same address.
TEST(FrozenModelTest, ARecordingOfAModelThatIsGoneFitsNoOther) {
  const at::Tensor x = at::ones({2});
  std::optional<SquareModel> model;
  model.emplace(1);
  const FrozenModel* const address = &*model;
  const Recording recording = model->record({x});
  model.emplace(2);
  ASSERT_EQ(address, &*model);
  const std::string message = "recording has to be one of this model, but got another model's";
  expect_refused(
      {{"resume", [&] { model->resume(recording, "h", x); }, message},
       {"select rows", [&] { model->select_rows(recording, at::zeros({1}, at::kLong), {"h"}); },
        message}});
  EXPECT_TRUE(recording.output().equal(at::full({2}, 2.0f)));  // a value, all the same
}

TEST(FrozenModelTest, FingerprintTellsOneBit) {
  const ExampleModel example = example_models().at(0), same = example_models().at(0);
  const std::string fingerprint = example.model->fingerprint();
  EXPECT_EQ(fingerprint.size(), 40u);
  EXPECT_EQ(fingerprint, same.model->fingerprint());
  const auto tensors = example.model->tensors();
  for (const std::string name : {"0.weight", "6.bias", "2.running_mean"}) {
    SCOPED_TRACE(name);
    auto* bits = static_cast<uint32_t*>(tensors.at(name).data_ptr());
    *bits ^= 1;
    EXPECT_NE(example.model->fingerprint(), fingerprint);
    *bits ^= 1;
    EXPECT_EQ(example.model->fingerprint(), fingerprint);
  }
}

TEST(FrozenModelTest, KnowsItsDevice) {
  EXPECT_TRUE(example_models().at(0).model->device().is_cpu());
}

TEST(FrozenModelTest, RefusesBadInput) {
  for (const ExampleModel& example : example_models()) {
    SCOPED_TRACE(example.kind);
    const FrozenModel& model = *example.model;
    const std::string first = model.site_names().at(0), second = model.site_names().at(1);
    const Recording recording = model.record(example.inputs);
    const Recording partial = model.record(example.inputs, {second});
    const at::Tensor state = recording.state(first);
    const Recording others = example_models().at(0).model->record(example_models().at(0).inputs);
    const std::string nearest = "(nearest: " + first;
    expect_refused({
        {"no inputs", [&] { model.record({}); }, "inputs has to be at least one tensor"},
        {"undefined input", [&] { model.record({at::Tensor()}); }, "inputs[0] has to be defined"},
        {"record an unknown site", [&] { model.record(example.inputs, {first + "_"}); }, nearest},
        {"site of no such name", [&] { model.site(first + "_"); }, nearest},
        {"resume an unknown site", [&] { model.resume(recording, first + "_", state); }, nearest},
        {"read an unknown site", [&] { recording.state(first + "_"); }, nearest},
        {"read an unrecorded site", [&] { partial.state(first); },
         "site has to be one of the recorded ones, but got '" + first + "' (nearest: " + second},
        {"undefined state", [&] { model.resume(recording, first, at::Tensor()); },
         "state at '" + first + "' has to be defined"},
        {"state's shape", [&] { model.resume(recording, first, state.t()); },
         "state at '" + first + "' has to be of shape " + shape_string(state.sizes())},
        {"state's dtype", [&] { model.resume(recording, first, state.to(at::kDouble)); },
         "of dtype Float, but got Double"},
        {"no replacement", [&] { model.resume(recording, std::vector<Replacement>{}); },
         "replacements has to be at least one"},
        {"one site twice",
         [&] {
           model.resume(recording, {{first, state}, {first, state}});
         },
         "replacements has to be one per site, but got two at '" + first},
        {"another model's", [&] { model.resume(others, first, state); },
         "recording has to be one of this model, but got another model's"},
        {"empty recording", [&] { model.resume(Recording(), first, state); }, "an empty one"},
    });
  }
}

TEST(FrozenModelTest, RefusesTrainingMode) {
  for (const ExampleModel& example : example_models()) {
    SCOPED_TRACE(example.kind);
    const Recording recording = example.model->record(example.inputs);
    const std::string site = example.model->site_names().at(0);
    const auto dropout = example.module->named_modules()["3"];
    dropout->train();
    const std::string message = "model.3 has to be in evaluation mode";
    expect_refused({
        {"record", [&] { example.model->record(example.inputs); }, message},
        {"resume", [&] { example.model->resume(recording, site, recording.state(site)); }, message},
    });
    dropout->eval();
    EXPECT_TRUE(example.model->record(example.inputs).output().equal(recording.output()));
  }
}

TEST(FingerprintTest, OfAModelWithoutTensors) {
  const auto module = std::make_shared<torch::nn::Module>();
  module->eval();
  const auto same = [](const at::Tensor& x, const Inputs&) { return x.clone(); };
  const StagedModel model(module, {{"first", same}, {"last", same}});
  EXPECT_EQ(model.fingerprint(), "da39a3ee5e6b4b0d3255bfef95601890afd80709") << "SHA-1 of nothing";
}

}  // namespace
}  // namespace diffmask
