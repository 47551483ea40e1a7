#include "diffmask/zoo/tasks/encoder.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "diffmask/core/random.hpp"
#include "diffmask/zoo/data/encoded.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

TEST(EncoderTest, IsFittedOnceAndThenLoaded) {
  const TrainingTask task = training_task();
  const TemporaryFolder folder;
  const std::string file = folder / "explainer.safetensors";
  TrainerOptions options = encoder_training(Masking::hidden, 0.1);
  EXPECT_NEAR(options.epsilon, 0.07, 1e-12);
  EXPECT_EQ(options.recipe.name, "encoder_hidden");
  options.steps = 3;
  options.recipe.warm_up = 1;
  const auto get = [&](const std::string& name) {
    return fitted_or_loaded(task.model, encoder_explainer(Masking::hidden), *task.training,
                            *task.validation, options, name);
  };
  const FittedOrLoaded fitted = get(file), loaded = get(file);
  EXPECT_EQ(fitted.summary.steps, 3);
  EXPECT_EQ(loaded.summary.steps, 0) << "it was not trained again";
  const Batch batch = task.validation->batch({0, 1});
  EXPECT_TRUE(fitted.method.attribute(batch).scores.equal(loaded.method.attribute(batch).scores));
  std::filesystem::remove(file);
  EXPECT_EQ(get("").summary.steps, 3);
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST(EncoderTest, InputBaselinesMayBeginAsTheMask) {
  const WordPiece tokenizer = made_tokenizer();
  const auto net = small_bert(tokenizer, {.classes = 2}, make_generator(0));
  const EncodedDataset data({tokenizer.encode("a good film"), tokenizer.encode("a dull film")},
                            at::tensor(std::vector<int64_t>{1, 0}, at::kLong));
  DiffMask method(staged(net), encoder_explainer(Masking::input, mask_baseline(*net, tokenizer)));
  TrainerOptions options = encoder_training(Masking::input, 0.1);
  options.steps = 1;
  options.recipe.warm_up = 0;
  options.recipe.baseline_rate = 1e-9;
  method.fit(data, data, options);
  const at::Tensor mask = at::full({1, 1}, tokenizer.mask(), at::kLong);
  EXPECT_TRUE(at::allclose(method.explainer().baselines().at(0), net->embed_words(mask).flatten(),
                           0, 1e-6));
}

}  // namespace
}  // namespace diffmask
