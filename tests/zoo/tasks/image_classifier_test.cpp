#include "diffmask/zoo/tasks/image_classifier.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <memory>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

std::shared_ptr<ConvClassifier> conv() {
  return std::make_shared<ConvClassifier>(ConvClassifierOptions{.sizes = {4, 6}},
                                          make_generator(0));
}

std::shared_ptr<VisionTransformer> transformer() {
  return std::make_shared<VisionTransformer>(
      VisionTransformerOptions{.hidden_size = 8, .layers = 2, .heads = 2, .inner_size = 12},
      make_generator(1));
}

// The same 7 x 7 patches at all sites, by both gatings.
void expect_explained(const ImageClassifier& classifier) {
  EXPECT_FALSE(classifier.module->is_training());
  const PaddedDataset data = made_images(24, make_generator(2)).dataset(49);
  const Batch batch = data.batch({0, 1});
  const Recording recording = classifier.model->record(batch.inputs);
  EXPECT_TRUE(classifier.forward(batch.inputs).equal(recording.output()));
  const auto names = classifier.model->site_names();
  ASSERT_EQ(classifier.positions.size(), names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(classifier.positions[i].features(recording.state(names[i])).size(1), 49) << names[i];
  }
  for (const Masking masking : {Masking::input, Masking::hidden}) {
    DiffMask method(classifier.model, classifier.explainer(masking));
    TrainerOptions training = classifier.training(masking, 0.1);
    training.steps = 2;
    training.recipe.warm_up = 1;
    training.batches.batch_size = 8;
    method.fit(data, data, training);
    const Attribution found = method.attribute(batch);
    EXPECT_EQ(found.sites.front(), masking == Masking::input ? "image" : names[1]);
    EXPECT_EQ(found.sites.back(), names.back());
    EXPECT_EQ(found.scores.size(1), 49);
  }
}

TEST(ImageClassifierTest, ExplainsAConvolutionalNet) {
  const ImageClassifier classifier = image_classifier(conv(), 7);
  expect_explained(classifier);
  EXPECT_EQ(classifier.training(Masking::hidden, 0.1).recipe.name, "images_hidden");
}

TEST(ImageClassifierTest, ExplainsATransformer) {
  const ImageClassifier classifier = image_classifier(transformer());
  expect_explained(classifier);
  const TrainerOptions training = classifier.training(Masking::hidden, 0.1);
  EXPECT_EQ(training.recipe.name, "encoder_hidden");
  EXPECT_EQ(training.recipe.expected_every, 0) << "samples alone";
  EXPECT_LT(training.epsilon, 0.1) << "to a margin";
}

TEST(ImageClassifierTest, IsTrainedByItsOwnSettings) {
  const PaddedDataset data = made_images(64, make_generator(2)).dataset(49);
  for (const ImageClassifier& classifier :
       {image_classifier(conv(), 7), image_classifier(transformer())}) {
    const SupervisedOptions options = classifier.supervised(/*seed=*/3);
    EXPECT_EQ(options.seed, 3u);
    EXPECT_LT(classifier.train(data, data, options).loss, std::log(10.0)) << "chance";
    const at::Tensor output = classifier.model->record(data.batch(iota(64)).inputs).output();
    EXPECT_TRUE(classifier.predicted(data).equal(output.argmax(1)));
  }
}

TEST(ImageClassifierTest, TellsHowBrightIsWhatMasksTake) {
  at::Tensor image = at::zeros({2, 1, 4, 4});
  image[0][0][0][0] = 3;  // in the first patch of 2 x 2
  image[1][0][3][3] = 1;  // in the last
  at::Tensor keep = at::ones({2, 4, 2}, at::kBool);
  keep.select(1, 0).select(1, 1).fill_(false);  // the second site masks the first patch
  const Attribution attribution{{"a", "b"}, keep.to(at::kFloat), keep, at::ones({2, 4}, at::kBool)};
  const Positions patches{Positions::Layout::image, 2};
  EXPECT_EQ(masked_brightness(attribution, image, patches), (std::vector<double>{0, 0.75}));
  EXPECT_EQ(black_patches(image, patches), 6.0 / 8);
  expect_refused({{"patches",
                   [&] {
                     masked_brightness(attribution, image, {Positions::Layout::image, 1});
                   },
                   "patches of the images has to be of shape"}});
}

TEST(ImageClassifierTest, RowsOfAPageNameClasses) {
  Batch batch = made_images(3, make_generator(2)).dataset(49).batch({2, 0});
  batch.labels = at::tensor(std::vector<int64_t>{1, 0}, at::kLong);
  const at::Tensor scores = at::rand({2, 49, 1}, make_generator(0));
  const Attribution attribution{{"image"}, scores, scores.gt(0.5), batch.mask};
  const auto rows_of = [&](int64_t second) {
    return image_overlays(attribution, batch, 7,
                          at::tensor(std::vector<int64_t>{1, second}, at::kLong), {"shirt", "coat"},
                          "net");
  };
  const auto rows = rows_of(1);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].title, "net: coat, predicted coat");
  EXPECT_EQ(rows[1].title, "net: shirt, predicted coat");
  EXPECT_TRUE(rows[1].image.equal(batch.inputs[0][1]));
  expect_refused({{"name", [&] { rows_of(2); }, "classes has to be a name of class 2"}});
}

TEST(ImageClassifierTest, RefusesWhatHasNoSuchPatches) {
  expect_refused(
      {{"5 columns", [] { image_classifier(conv(), 5); },
        "columns has to be a divisor of 28, a site's width, but got 5"},
       {"14 columns", [] { image_classifier(conv(), 14); }, "a divisor of 7, a site's width"},
       {"0", [] { image_classifier(conv(), 0); }, "columns has to be >= 1, but got 0"},
       {"no net", [] { image_classifier(std::shared_ptr<VisionTransformer>()); },
        "net has to be"}});
}

}  // namespace
}  // namespace diffmask
