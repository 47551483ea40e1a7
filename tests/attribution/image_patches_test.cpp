// DiffMask over patches of images, where the answer is known: a model that looks at one patch.
#include <gtest/gtest.h>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/zoo/data/images.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

constexpr int64_t kPatches = 16, kRow = 1, kColumn = 2;  // of 4 x 4 patches of 2 x 2 cells

// Patches that are all 1 or all 2.
PaddedDataset patterns(int64_t count, uint64_t seed) {
  const at::Tensor values = at::randint(1, 3, {count, 1, 4, 4}, make_generator(seed));
  return LabelledImages{values.to(at::kFloat).repeat_interleave(2, 2).repeat_interleave(2, 3),
                        at::zeros({count}, at::kLong)}
      .dataset(kPatches);
}

// y = (0, sum of the patch's cells - 6): logits of -2 and 2, and -6 where the patch is masked by 0.
// Sites "image" and "seen" (B, 1, 8, 8), which is 0 elsewhere.
std::shared_ptr<StagedModel> looks_at_one_patch() {
  const at::Tensor window = at::zeros({8, 8});
  window.narrow(0, 2 * kRow, 2).narrow(1, 2 * kColumn, 2).fill_(1);
  torch::nn::Sequential no_weights;
  no_weights->eval();
  return std::make_shared<StagedModel>(
      no_weights.ptr(),
      std::vector<Stage>{{"image", [](const at::Tensor& x, const Inputs&) { return x; }},
                         {"seen", [=](const at::Tensor& h, const Inputs&) { return h * window; }},
                         {"head", [](const at::Tensor& h, const Inputs&) {
                            const at::Tensor logit = h.sum({1, 2, 3}) - 6;
                            return at::stack({at::zeros_like(logit), logit}, 1);
                          }}});
}

// A learned baseline could be 2 and make the patch needless to half of the images.
ExplainerOptions options_for(const std::vector<std::string>& sites) {
  ExplainerOptions options;
  options.masking = Masking::input;
  options.sites = sites;
  options.positions = {{Positions::Layout::image, 2}};
  options.baseline = {.start = BaselineOptions::Start::zero, .learned = false};
  return options;
}

TrainerOptions steps(int64_t count) {
  TrainerOptions options;
  options.epsilon = 0.05;
  options.steps = count;
  options.batches.batch_size = 32;
  options.recipe.gate_rate = 0.05;
  options.recipe.validate_every = count;
  return options;
}

void expect_only_that_patch(const at::Tensor& keep) {
  const at::Tensor known = at::arange(kPatches).eq(4 * kRow + kColumn).expand_as(keep);
  EXPECT_TRUE(keep.equal(known)) << keep;
}

// The input's patches by themselves do not tell where they are; what is seen of them does.
TEST(ImagePatchesTest, AProbeOpensTheOnePatchThatIsLookedAt) {
  const auto model = looks_at_one_patch();
  const PaddedDataset training = patterns(128, 1), held_out = patterns(50, 2);
  DiffMask method(model, options_for({"image", "seen"}));
  method.fit(training, held_out, steps(300));
  const Batch batch = held_out.batch(iota(50));
  const Attribution attribution = method.attribute(batch);
  ASSERT_EQ(attribution.scores.sizes(), at::IntArrayRef({50, kPatches, 2}));
  expect_only_that_patch(attribution.keep.select(2, 1));
  // With that mask the model's output is what it was, to the bit: the patch's z is 1.
  const at::Tensor z = attribution.keep.select(2, 1).to(at::kFloat);
  EXPECT_TRUE(method.masked_output(batch, 1, z).equal(model->record(batch.inputs).output()));
}

TEST(ImagePatchesTest, FreeLogitsOpenItOnPixels) {
  const PaddedDataset data = patterns(32, 3);
  ExplainerOptions options = options_for({"image"});
  options.probe = free_logits();
  DiffMask method(looks_at_one_patch(), options);
  method.fit(data, steps(300));
  expect_only_that_patch(method.attribute(data.batch(iota(32))).keep.select(2, 0));
}

}  // namespace
}  // namespace diffmask
