#include "diffmask/model/native.hpp"

#include <gtest/gtest.h>

#include "diffmask/program/program.hpp"
#include "tests/model/example_models.hpp"

namespace diffmask {
namespace {

TEST(TraceTest, IsTheModelBitForBit) {
  for (const ExampleModel& example : example_models()) {
    SCOPED_TRACE(example.kind);
    const auto& model = dynamic_cast<const NativeModel&>(*example.model);
    const std::string before = model.fingerprint();
    const auto program = model.trace(example.inputs);
    EXPECT_EQ(program->site_names(), model.site_names());
    EXPECT_EQ(program->fingerprint(), before);
    const Recording native = model.record(example.inputs);
    const Recording traced = program->record(example.inputs);
    EXPECT_TRUE(traced.output().equal(native.output()));
    for (const std::string& site : model.site_names()) {
      SCOPED_TRACE(site);
      EXPECT_TRUE(traced.state(site).equal(native.state(site)));
      const at::Tensor other = at::zeros_like(native.state(site));
      EXPECT_TRUE(program->resume(traced, site, other).equal(model.resume(native, site, other)));
    }
    EXPECT_EQ(model.fingerprint(), before);
  }
}

// A tapped state that its caller still holds: what is read past the tap is not the site.
TEST(TraceTest, KnowsWhatIsReadPastATap) {
  auto module = std::make_shared<torch::nn::IdentityImpl>();
  module->eval();
  const TappedModel model(module,
                          [](const Inputs& x, Tap& tap) {
                            const at::Tensor h = x[0] * 2;
                            return h + tap("h", h);
                          },
                          {at::ones({2, 3})});
  const auto program = model.trace({at::ones({2, 3})});
  const Recording recording = program->record({at::ones({2, 3})});
  EXPECT_TRUE(program->resume(recording, "h", at::zeros({2, 3})).equal(at::full({2, 3}, 2.0f)));
}

}  // namespace
}  // namespace diffmask
