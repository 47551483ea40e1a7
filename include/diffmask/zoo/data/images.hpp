#pragma once
/// \file
/// Labelled images, and Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 70,000 photographs of clothes
/// in ten classes, 28 x 28 grey pixels each, 60,000 of them for training. Debian's package
/// dataset-fashion-mnist puts it under /usr/share/datasets/fashion-mnist.
///
///     const auto all = read_fashion_mnist("/usr/share/datasets/fashion-mnist", Split::training);
///     const PaddedDataset training = all.part(0, 50'000).dataset(/*positions=*/49);
///     const Batch batch = training.batch({0, 1});

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/data/dataset.hpp"

namespace diffmask {

struct LabelledImages {
  at::Tensor images;  ///< (N, 1, H, W) float in [0, 1]
  at::Tensor labels;  ///< (N) int64

  int64_t size() const { return images.size(0); }

  /// Images first..first + count - 1; ArgumentError if there are fewer.
  LabelledImages part(int64_t first, int64_t count) const;

  /// As a data set for a model whose only input is the images. `positions` is the number of
  /// positions of the sites to be explained: a 7 x 7 grid of patches has 49.
  PaddedDataset dataset(int64_t positions) const;
};

/// Images to train on, to select on and to report on.
struct ImageSets {
  PaddedDataset training, validation, test;
};

struct ImageSetOptions {
  int64_t training = 0;    ///< number of images to train on, >= 1: the first ones
  int64_t validation = 0;  ///< number of images to select on, >= 1: the last ones
  int64_t positions = 0;   ///< of the sites to be explained (LabelledImages::dataset)
};

/// Two parts, e.g. those of Fashion-MNIST, as data sets: of the first part some images are trained
/// and selected on, the second is the test part. ArgumentError unless `all` has that many images.
///
///     const ImageSets data = image_sets(read_fashion_mnist(folder, Split::training),
///                                       read_fashion_mnist(folder, Split::test),
///                                       {.training = 16'000, .validation = 1'000, .positions = 49});
ImageSets image_sets(const LabelledImages& all, const LabelledImages& test,
                     const ImageSetOptions& options);

/// Images and labels from two IDX files. FileError unless they are uint8 of shapes (N, H, W) and
/// (N).
LabelledImages read_labelled_images(const std::string& images, const std::string& labels);

enum class Split { training, test };

/// One part of Fashion-MNIST, from the folder that holds its four compressed files under their
/// original names. FileError also if a label is not a class.
LabelledImages read_fashion_mnist(const std::string& folder, Split split);

/// The names of Fashion-MNIST's classes 0..9.
const std::vector<std::string>& fashion_classes();

}  // namespace diffmask
