#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/zoo/data/images.hpp"

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/zoo/data/idx.hpp"

namespace diffmask {
namespace {

// A file's tensor; FileError unless it is of bytes and has this number of dimensions.
at::Tensor load_bytes(const std::string& path, int64_t dimensions, const char* rule) {
  const at::Tensor values = load_idx(path);
  if (values.scalar_type() != at::kByte || values.dim() != dimensions) {
    throw FileError(path,
                    fmt::format("has to hold {}, but got {} {}", rule,
                                c10::toString(values.scalar_type()), shape_string(values.sizes())));
  }
  return values;
}

}  // namespace

LabelledImages LabelledImages::part(int64_t first, int64_t count) const {
  require(first >= 0 && first < size(), "first", fmt::format("in 0..{}", size() - 1), first);
  require(count >= 1 && count <= size() - first, "count", fmt::format("in 1..{}", size() - first),
          count);
  return {images.narrow(0, first, count), labels.narrow(0, first, count)};
}

PaddedDataset LabelledImages::dataset(int64_t positions) const {
  return PaddedDataset({{images}}, at::full({size()}, positions, at::kLong), labels,
                       /*mask_is_input=*/false);
}

ImageSets image_sets(const LabelledImages& all, const LabelledImages& test,
                     const ImageSetOptions& options) {
  const auto& [training, validation, positions] = options;
  require(training >= 1, "training", ">= 1", training);
  require(validation >= 1, "validation", ">= 1", validation);
  require(training + validation <= all.size(), "training + validation",
          fmt::format("at most {}, the number of images", all.size()), training + validation);
  return {all.part(0, training).dataset(positions),
          all.part(all.size() - validation, validation).dataset(positions),
          test.dataset(positions)};
}

LabelledImages read_labelled_images(const std::string& images, const std::string& labels) {
  const at::Tensor cells = load_bytes(images, 3, "images as bytes (N, H, W)");
  const at::Tensor classes = load_bytes(labels, 1, "labels as bytes (N)");
  if (classes.size(0) != cells.size(0)) {
    throw FileError(labels, fmt::format("has to hold {} labels, one per image of {}, but got {}",
                                        cells.size(0), images, classes.size(0)));
  }
  return {cells.unsqueeze(1).to(at::kFloat).div_(255), classes.to(at::kLong)};
}

LabelledImages read_fashion_mnist(const std::string& folder, Split split) {
  const std::string begin = folder + (split == Split::training ? "/train" : "/t10k");
  const std::string labels = begin + "-labels-idx1-ubyte.gz";
  LabelledImages data = read_labelled_images(begin + "-images-idx3-ubyte.gz", labels);
  const auto classes = static_cast<int64_t>(fashion_classes().size());
  const int64_t most = data.labels.max().item<int64_t>();
  if (most >= classes) {
    throw FileError(labels,
                    fmt::format("labels have to be in 0..{}, but got {}", classes - 1, most));
  }
  return data;
}

const std::vector<std::string>& fashion_classes() {
  static const std::vector<std::string> names = {"T-shirt", "trousers",  "pullover", "dress",
                                                 "coat",    "sandal",    "shirt",    "sneaker",
                                                 "bag",     "ankle boot"};
  return names;
}

}  // namespace diffmask
