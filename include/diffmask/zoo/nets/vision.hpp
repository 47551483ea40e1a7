#pragma once
/// \file
/// Two small image classifiers as staged models.
///
/// A convolutional network (LeCun et al. 1998), blocks l = 0, 1, ... that halve height and width:
///
///     h_0 = x,   h_{l+1} = maxpool_2(relu(W_l * h_l + c_l)),   y = W flatten(h_L) + b
///
/// A vision transformer (Dosovitskiy et al. 2021, equations 1 to 4) with p x p patches x_t and
/// learned places e_t:
///
///     h_0[t] = W x_t + e_t,   a = h_l + MSA(LN(h_l)),   h_{l+1} = a + MLP(LN(a))
///     y = W mean_t LN(h_L)[t] + b
///
/// It has no [CLS] token but reads the mean over patches, which works as well (Beyer et al. 2022).
/// So the positions of every site are the image's patches, row by row, and one mask fits all sites.
///
///     const VisionTransformerOptions options{.classes = 10, .patch = 4};
///     const auto net = std::make_shared<VisionTransformer>(options, make_generator(seed));
///     const Recording recording = staged(net)->record({images}, {"patches"});

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "diffmask/model/staged.hpp"

namespace torch::nn {
class Conv2dImpl;
class LayerNormImpl;
class LinearImpl;
}  // namespace torch::nn

namespace diffmask {

/// The images that a net reads: (B, channels, height, width), of floating point.
struct ImageShape {
  int64_t channels = 1;             ///< >= 1
  int64_t height = 28, width = 28;  ///< >= 1

  void validate() const;

  /// Throws ArgumentError for images of another shape or dtype; returns them.
  const at::Tensor& check(const at::Tensor& images) const;
};

struct ConvClassifierOptions {
  ImageShape image = {};                  ///< sides divisible by 2 once for each block
  int64_t classes = 10;                   ///< >= 2
  std::vector<int64_t> sizes = {16, 32};  ///< channels of each block's output, each >= 1
  int64_t kernel = 3;                     ///< side of the kernels, odd, >= 1

  void validate() const;
};

class ConvClassifier : public torch::nn::Module {
 public:
  /// Initial weights are drawn from the generator.
  ConvClassifier(ConvClassifierOptions options, at::Generator generator);

  /// Shapes: state (B, C, H, W) -> (B, C', H / 2, W / 2).
  at::Tensor block(int64_t number, const at::Tensor& state) const;
  /// Shapes: the last block's output -> (B, classes).
  at::Tensor classify(const at::Tensor& state) const;
  /// Logits. Shapes: images (B, C, H, W) -> (B, classes).
  at::Tensor forward(const at::Tensor& images) const;

  const ConvClassifierOptions& options() const { return options_; }

 private:
  ConvClassifierOptions options_;
  std::vector<std::shared_ptr<torch::nn::Conv2dImpl>> blocks_;
  std::shared_ptr<torch::nn::LinearImpl> head_;
};

/// As a staged model of the images. Sites "image", "block.0", "block.1", ..., all with image
/// positions.
std::shared_ptr<StagedModel> staged(std::shared_ptr<ConvClassifier> net);

struct VisionTransformerOptions {
  ImageShape image = {};
  int64_t classes = 10;      ///< >= 2
  int64_t patch = 4;         ///< side p of a patch in pixels, >= 1; divides height and width
  int64_t hidden_size = 64;  ///< F, >= 1
  int64_t layers = 3;        ///< >= 1
  int64_t heads = 4;         ///< >= 1, divides the hidden size
  int64_t inner_size = 128;  ///< of the MLPs, >= 1

  void validate() const;
};

class VisionTransformer : public torch::nn::Module {
 public:
  /// Initial weights are drawn from the generator.
  VisionTransformer(VisionTransformerOptions options, at::Generator generator);

  /// Shapes: images (B, C, H, W) -> (B, T, F), T = H W / p^2.
  at::Tensor embed(const at::Tensor& images) const;
  /// Shapes: state (B, T, F) -> (B, T, F).
  at::Tensor layer(int64_t number, const at::Tensor& state) const;
  /// Shapes: state (B, T, F) -> (B, classes).
  at::Tensor classify(const at::Tensor& state) const;
  /// Logits. Shapes: images (B, C, H, W) -> (B, classes).
  at::Tensor forward(const at::Tensor& images) const;

  const VisionTransformerOptions& options() const { return options_; }

 private:
  class Layer;

  VisionTransformerOptions options_;
  std::shared_ptr<torch::nn::LinearImpl> projection_, head_;
  std::shared_ptr<torch::nn::LayerNormImpl> norm_;
  at::Tensor places_;
  std::vector<std::shared_ptr<Layer>> layers_;
};

/// As a staged model of the images. Site "image" has image positions; the positions of "patches",
/// "layer.0", "layer.1", ... are a sequence, the patches row by row.
std::shared_ptr<StagedModel> staged(std::shared_ptr<VisionTransformer> net);

}  // namespace diffmask
