#pragma once
/// \file
/// Labelled images, and Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 70,000 photographs of clothes
/// in ten classes, 28 x 28 cells of grey, 60,000 of them to train on. Debian's package
/// dataset-fashion-mnist puts it under /usr/share/datasets/fashion-mnist.

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

  /// The images first..first + count - 1; ArgumentError where there are not as many.
  LabelledImages part(int64_t first, int64_t count) const;

  /// As batches for a model whose one input is the images. The number of positions is that of
  /// the sites to be explained: a 7 x 7 grid of patches has 49.
  PaddedDataset dataset(int64_t positions) const;
};

/// Images and labels of two IDX files. FileError unless they are uint8, of shapes (N, H, W) and
/// (N).
LabelledImages read_labelled_images(const std::string& images, const std::string& labels);

enum class Split { training, test };

/// One part of Fashion-MNIST from the folder that holds its four compressed files under their own
/// names. FileError, too, where a label is not a class.
LabelledImages read_fashion_mnist(const std::string& folder, Split split);

/// The names of its classes 0..9.
const std::vector<std::string>& fashion_classes();

}  // namespace diffmask
