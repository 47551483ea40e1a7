// DeepLIFT and LRP explain any kind of model that offers a program.
#include <gtest/gtest.h>

#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "tests/attribution/rule_models.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

at::Tensor head(const at::Tensor& h) {
  return at::linear(at::tanh(h).flatten(1), random_tensor({2, 12}, 1));
}

// A kind of model that the library does not know: y = head(h), h = x at the site "x".
class OpaqueModel : public FrozenModel {
 public:
  OpaqueModel() { sites_ = {{"x"}}; }
  std::map<std::string, at::Tensor> tensors() const override { return {}; }

 protected:
  at::Tensor run(Pass& pass) const override { return head(pass.tap("x", pass.inputs[0] * 1)); }
};

class OpenModel : public OpaqueModel {
 public:
  std::shared_ptr<const Program> program(const Inputs& inputs) const override {
    return model_of(head)->program(inputs);
  }
};

TEST(ProgramMethodTest, ExplainsAnyModelThatOffersAProgram) {
  const Batch batch = numbered_batch(random_tensor({2, 3, 4}, 6));
  const auto open = std::make_shared<OpenModel>();
  const auto native = model_of(head);
  const auto program = native->program(batch.inputs);
  EXPECT_TRUE(open->record(batch.inputs).output().equal(native->record(batch.inputs).output()));
  const auto deeplift = [&](auto model) { return DeepLift(model).attribute(batch).features[0]; };
  const auto lrp = [&](auto model) { return Lrp(model).attribute(batch).features[0]; };
  EXPECT_TRUE(deeplift(open).equal(deeplift(native)));
  EXPECT_TRUE(lrp(open).equal(lrp(native)));
  EXPECT_TRUE(deeplift(program).equal(deeplift(native)));
  EXPECT_TRUE(lrp(program).equal(lrp(native)));
}

TEST(ProgramMethodTest, SaysWhatAModelHasToImplement) {
  const Batch batch = numbered_batch(random_tensor({2, 3, 4}, 6));
  const auto model = std::make_shared<OpaqueModel>();
  const std::string message = "or one that overrides FrozenModel::program(inputs)";
  expect_refused({{"DeepLIFT", [&] { DeepLift(model).attribute(batch); }, message},
                  {"LRP", [&] { Lrp(model).attribute(batch); }, message}});
}

// A program that outlives the one it was asked of.
TEST(ProgramMethodTest, AProgramsProgramIsItselfAndLasts) {
  const Inputs x = {random_tensor({2, 3, 4}, 6)};
  auto program = model_of(head)->program(x);
  const auto same = program->program(x);
  const at::Tensor output = program->record(x).output();
  EXPECT_EQ(same->site_names(), program->site_names());
  EXPECT_EQ(same->fingerprint(), program->fingerprint());
  program.reset();
  EXPECT_TRUE(same->record(x).output().equal(output));
}

}  // namespace
}  // namespace diffmask
