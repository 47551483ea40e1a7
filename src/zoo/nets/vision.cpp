#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/zoo/nets/vision.hpp"

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/zoo/nets/init.hpp"
#include "zoo/nets/attention.hpp"

namespace diffmask {

namespace nn = torch::nn;

void ImageShape::validate() const {
  require(channels >= 1, "image.channels", ">= 1", channels);
  require(height >= 1, "image.height", ">= 1", height);
  require(width >= 1, "image.width", ">= 1", width);
}

const at::Tensor& ImageShape::check(const at::Tensor& images) const {
  check_shape("images", images, {-1, channels, height, width});
  require(images.is_floating_point(), "images", "of floating point",
          c10::toString(images.scalar_type()));
  return images;
}

void ConvClassifierOptions::validate() const {
  image.validate();
  require(classes >= 2, "classes", ">= 2", classes);
  require(!sizes.empty(), "sizes", "of one block or more", "none");
  require(sizes.size() < 32, "sizes", "of fewer than 32 blocks", sizes.size());
  for (const int64_t size : sizes) require(size >= 1, "sizes", ">= 1 each", size);
  require(kernel >= 1 && kernel % 2 == 1, "kernel", "odd and >= 1", kernel);
  const int64_t halved = int64_t{1} << sizes.size();
  const std::string rule = fmt::format("divisible by {}, as each block halves it", halved);
  require(image.height % halved == 0, "image.height", rule, image.height);
  require(image.width % halved == 0, "image.width", rule, image.width);
}

ConvClassifier::ConvClassifier(ConvClassifierOptions options, at::Generator generator)
    : options_(std::move(options)) {
  options_.validate();
  int64_t in = options_.image.channels;
  int64_t cells = options_.image.height * options_.image.width;
  for (const int64_t out : options_.sizes) {
    const auto conv = nn::Conv2dOptions(in, out, options_.kernel).padding(options_.kernel / 2);
    blocks_.push_back(register_module(fmt::format("block{}", blocks_.size()), nn::Conv2d(conv)));
    in = out;
    cells /= 4;
  }
  head_ = register_module("head", nn::Linear(in * cells, options_.classes));
  initialise(*this, std::move(generator));
}

at::Tensor ConvClassifier::block(int64_t number, const at::Tensor& state) const {
  return at::max_pool2d(at::relu(blocks_.at(number)->forward(state)), 2);
}

at::Tensor ConvClassifier::classify(const at::Tensor& state) const {
  return head_->forward(state.flatten(1));
}

at::Tensor ConvClassifier::forward(const at::Tensor& images) const {
  at::Tensor state = options_.image.check(images);
  for (size_t i = 0; i < blocks_.size(); ++i) state = block(static_cast<int64_t>(i), state);
  return classify(state);
}

std::shared_ptr<StagedModel> staged(std::shared_ptr<ConvClassifier> net) {
  std::vector<Stage> stages = {{"image", [net](const at::Tensor& images, const Inputs&) {
                                  return net->options().image.check(images);
                                }}};
  for (size_t i = 0; i < net->options().sizes.size(); ++i) {
    const auto number = static_cast<int64_t>(i);
    stages.push_back(
        {fmt::format("block.{}", i),
         [net, number](const at::Tensor& h, const Inputs&) { return net->block(number, h); }});
  }
  stages.push_back(
      {"head", [net](const at::Tensor& h, const Inputs&) { return net->classify(h); }});
  return std::make_shared<StagedModel>(net, std::move(stages));
}

void VisionTransformerOptions::validate() const {
  image.validate();
  require(classes >= 2, "classes", ">= 2", classes);
  require(
      patch >= 1 && image.height % patch == 0 && image.width % patch == 0, "patch",
      fmt::format(">= 1 and a divisor of {} and {}, the image's sides", image.height, image.width),
      patch);
  require(hidden_size >= 1, "hidden_size", ">= 1", hidden_size);
  require(layers >= 1, "layers", ">= 1", layers);
  require(heads >= 1 && hidden_size % heads == 0, "heads",
          fmt::format(">= 1 and a divisor of {}, the hidden size", hidden_size), heads);
  require(inner_size >= 1, "inner_size", ">= 1", inner_size);
}

// a = h + MSA(LN(h)),  h' = a + MLP(LN(a)).
class VisionTransformer::Layer : public nn::Module {
 public:
  explicit Layer(const VisionTransformerOptions& options) : heads_(options.heads) {
    const int64_t size = options.hidden_size;
    first_norm_ = register_module("first_norm", nn::LayerNorm(nn::LayerNormOptions({size})));
    projections_ = register_module("projections", nn::Linear(size, 3 * size));
    attended_ = register_module("attended", nn::Linear(size, size));
    second_norm_ = register_module("second_norm", nn::LayerNorm(nn::LayerNormOptions({size})));
    inner_ = register_module("inner", nn::Linear(size, options.inner_size));
    outer_ = register_module("outer", nn::Linear(options.inner_size, size));
  }

  at::Tensor forward(const at::Tensor& state) {
    // (B, T, 3 F) -> queries, keys and values (B, heads, T, F / heads).
    const auto parts = projections_(first_norm_(state))
                           .unflatten(-1, {3, heads_, state.size(2) / heads_})
                           .permute({2, 0, 3, 1, 4})
                           .unbind(0);
    const at::Tensor mixed = attention(parts[0], parts[1], parts[2], /*mask=*/{});
    const at::Tensor a = state + attended_(mixed.transpose(1, 2).flatten(2));
    return a + outer_(at::gelu(inner_(second_norm_(a))));
  }

 private:
  int64_t heads_;
  nn::LayerNorm first_norm_{nullptr}, second_norm_{nullptr};
  nn::Linear projections_{nullptr}, attended_{nullptr}, inner_{nullptr}, outer_{nullptr};
};

VisionTransformer::VisionTransformer(VisionTransformerOptions options, at::Generator generator)
    : options_(options) {
  options_.validate();
  const int64_t cells = options_.patch * options_.patch, size = options_.hidden_size;
  const int64_t patches = options_.image.height * options_.image.width / cells;
  projection_ = register_module("projection", nn::Linear(options_.image.channels * cells, size));
  places_ = register_parameter("places", at::zeros({patches, size}));
  for (int64_t i = 0; i < options_.layers; ++i) {
    layers_.push_back(
        register_module(fmt::format("layer{}", i), std::make_shared<Layer>(options_)));
  }
  norm_ = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({size})));
  head_ = register_module("head", nn::Linear(size, options_.classes));
  initialise(*this, std::move(generator));
}

at::Tensor VisionTransformer::embed(const at::Tensor& images) const {
  const at::Tensor patches = at::pixel_unshuffle(options_.image.check(images), options_.patch);
  return projection_->forward(patches.flatten(2).transpose(1, 2)) + places_;
}

at::Tensor VisionTransformer::layer(int64_t number, const at::Tensor& state) const {
  return layers_.at(number)->forward(state);
}

at::Tensor VisionTransformer::classify(const at::Tensor& state) const {
  return head_->forward(norm_->forward(state).mean(1));
}

at::Tensor VisionTransformer::forward(const at::Tensor& images) const {
  at::Tensor state = embed(images);
  for (int64_t i = 0; i < options_.layers; ++i) state = layer(i, state);
  return classify(state);
}

std::shared_ptr<StagedModel> staged(std::shared_ptr<VisionTransformer> net) {
  std::vector<Stage> stages = {
      {"image", [net](const at::Tensor& images,
                      const Inputs&) { return net->options().image.check(images); }},
      {"patches", [net](const at::Tensor& h, const Inputs&) { return net->embed(h); }}};
  for (int64_t i = 0; i < net->options().layers; ++i) {
    stages.push_back({fmt::format("layer.{}", i),
                      [net, i](const at::Tensor& h, const Inputs&) { return net->layer(i, h); }});
  }
  stages.push_back(
      {"head", [net](const at::Tensor& h, const Inputs&) { return net->classify(h); }});
  return std::make_shared<StagedModel>(net, std::move(stages));
}

}  // namespace diffmask
