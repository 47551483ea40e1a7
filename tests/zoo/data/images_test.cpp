#include "diffmask/zoo/data/images.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "diffmask/core/file.hpp"
#include "tests/bad_input.hpp"
#include "tests/idx_files.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

// Three images of 2 x 2 cells under the names of Fashion-MNIST's test part.
class ImagesTest : public testing::Test {
 protected:
  ImagesTest() { write(idx_of(0x08, {3, 2, 2}, pixels_), idx_of(0x08, {3}, {9, 0, 4})); }

  void write(const std::string& images, const std::string& labels) const {
    write_file(images_, gzipped(images));
    write_file(labels_, gzipped(labels));
  }

  const TemporaryFolder folder_;
  const std::string images_ = folder_ / "t10k-images-idx3-ubyte.gz";
  const std::string labels_ = folder_ / "t10k-labels-idx1-ubyte.gz";
  const std::string pixels_ = std::string("\x00\xff\x33\x66", 4) + "abcd" + "efgh";
};

TEST_F(ImagesTest, ReadsImagesAndLabels) {
  const LabelledImages data = read_fashion_mnist(folder_.path(), Split::test);
  EXPECT_EQ(data.size(), 3);
  EXPECT_TRUE(data.labels.equal(at::tensor({9, 0, 4}, at::kLong)));
  ASSERT_EQ(data.images.sizes(), at::IntArrayRef({3, 1, 2, 2}));
  EXPECT_TRUE(at::allclose(data.images[0][0], at::tensor({0.0f, 1.0f, 0.2f, 0.4f}).view({2, 2})));
}

TEST_F(ImagesTest, IsADatasetOfWholeImages) {
  const LabelledImages data = read_fashion_mnist(folder_.path(), Split::test);
  const PaddedDataset batches = data.part(1, 2).dataset(4);
  EXPECT_EQ(batches.size(), 2);
  EXPECT_EQ(batches.longest(), 4);
  const Batch batch = batches.batch({1, 0});
  EXPECT_NO_THROW(batch.validate());
  ASSERT_EQ(batch.inputs.size(), 1u);
  EXPECT_TRUE(batch.inputs[0].equal(at::stack({data.images[2], data.images[1]})));
  EXPECT_TRUE(batch.labels.equal(at::tensor({4, 0}, at::kLong)));
  EXPECT_TRUE(batch.mask.equal(at::ones({2, 4}, at::kBool)));
}

TEST_F(ImagesTest, SetsAreTheFirstAndTheLastOfOnePartAndTheOther) {
  const LabelledImages test = read_fashion_mnist(folder_.path(), Split::test);
  const LabelledImages all{at::rand({9, 1, 2, 2}), at::arange(9)};
  const ImageSets sets = image_sets(all, test, {.training = 4, .validation = 2, .positions = 4});
  EXPECT_TRUE(sets.training.labels().equal(at::arange(4)));
  EXPECT_TRUE(sets.validation.labels().equal(at::arange(7, 9)));
  EXPECT_TRUE(sets.test.labels().equal(test.labels));
  EXPECT_EQ(sets.validation.length(0), 4);
  EXPECT_TRUE(sets.validation.batch({1}).inputs[0].equal(all.images.narrow(0, 8, 1)));
  expect_refused({
      {"none", [&] { image_sets(all, test, {.validation = 2, .positions = 4}); },
       "training has to be >= 1"},
      {"both",
       [&] {
         image_sets(all, test, {8, 2, 4});
       },
       "training + validation has to be at most 9, the number of images, but got 10"},
  });
}

TEST_F(ImagesTest, RefusesWhatDoesNotFit) {
  const std::string images = idx_of(0x08, {3, 2, 2}, pixels_);
  const auto read = [this](const std::string& images, const std::string& labels) {
    return [=, this] {
      write(images, labels);
      read_fashion_mnist(folder_.path(), Split::test);
    };
  };
  expect_refused<FileError>({
      {"no file", [&] { read_fashion_mnist(folder_.path(), Split::training); },
       "train-images-idx3-ubyte.gz: cannot be opened"},
      {"no images", read(idx_of(0x08, {3}, "abc"), idx_of(0x08, {3}, "abc")),
       images_ + ": has to hold images as bytes (N, H, W), but got Byte (3)"},
      {"dtype", read(idx_of(0x09, {1, 1, 1}, "a"), idx_of(0x08, {1}, "a")),
       "but got Char (1, 1, 1)"},
      {"no labels", read(images, images),
       labels_ + ": has to hold labels as bytes (N), but got Byte (3, 2, 2)"},
      {"too few labels", read(images, idx_of(0x08, {2}, {1, 2})),
       labels_ + ": has to hold 3 labels, one per image of " + images_ + ", but got 2"},
      {"a label", read(images, idx_of(0x08, {3}, {1, 10, 2})),
       labels_ + ": labels have to be in 0..9, but got 10"},
  });
  write(images, idx_of(0x08, {3}, {9, 0, 4}));
  const LabelledImages data = read_fashion_mnist(folder_.path(), Split::test);
  expect_refused({
      {"first", [&] { data.part(3, 1); }, "first has to be in 0..2, but got 3"},
      {"count", [&] { data.part(1, 3); }, "count has to be in 1..2, but got 3"},
      {"none", [&] { data.part(1, 0); }, "but got 0"},
      {"positions", [&] { data.dataset(0); }, "lengths has to be >= 1"},
  });
}

// Where Debian's package is installed: the data set's published sizes, its classes being balanced.
TEST(FashionMnistTest, IsReadWhole) {
  const std::string folder = "/usr/share/datasets/fashion-mnist";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  const LabelledImages data = read_fashion_mnist(folder, Split::test);
  EXPECT_EQ(data.images.sizes(), at::IntArrayRef({10000, 1, 28, 28}));
  EXPECT_TRUE(data.labels.bincount().equal(at::full({10}, 1000, at::kLong)));
  EXPECT_EQ(fashion_classes().size(), 10u);
  EXPECT_EQ(data.images.min().item<float>(), 0);
  EXPECT_EQ(data.images.max().item<float>(), 1);
}

}  // namespace
}  // namespace diffmask
