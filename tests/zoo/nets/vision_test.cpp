#include "diffmask/zoo/nets/vision.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/core/random.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

// Images of 2 channels, 8 x 12 cells.
constexpr ImageShape kShape{2, 8, 12};

at::Tensor images(int64_t count = 3, uint64_t seed = 1) {
  return at::rand({count, 2, 8, 12}, make_generator(seed));
}

std::shared_ptr<ConvClassifier> make_conv(uint64_t seed = 0) {
  auto net = std::make_shared<ConvClassifier>(
      ConvClassifierOptions{.image = kShape, .classes = 3, .sizes = {4, 6}}, make_generator(seed));
  net->eval();
  return net;
}

std::shared_ptr<VisionTransformer> make_transformer(uint64_t seed = 0) {
  VisionTransformerOptions options;
  options.image = kShape;
  options.classes = 3;
  options.hidden_size = 8;
  options.layers = 2;
  options.heads = 2;
  options.inner_size = 12;
  auto net = std::make_shared<VisionTransformer>(options, make_generator(seed));
  net->eval();
  return net;
}

// Sites and their shapes, and that resuming at each is the model itself.
template <typename Net>
void expect_staged(const std::shared_ptr<Net>& net,
                   const std::vector<std::pair<std::string, std::vector<int64_t>>>& sites) {
  const auto model = staged(net);
  const Recording recording = model->record({images()});
  std::vector<std::string> names;
  for (const auto& [name, shape] : sites) {
    SCOPED_TRACE(name);
    names.push_back(name);
    const at::Tensor& state = recording.state(name);
    EXPECT_EQ(state.sizes(), at::IntArrayRef(shape));
    EXPECT_TRUE(model->resume(recording, name, state).equal(recording.output()));
    EXPECT_FALSE(model->resume(recording, name, state * 2 + 1).equal(recording.output()));
  }
  EXPECT_EQ(model->site_names(), names);
  at::NoGradGuard no_grad;
  EXPECT_EQ(recording.output().sizes(), at::IntArrayRef({3, 3}));
  EXPECT_TRUE(net->forward(images()).equal(recording.output()));
  EXPECT_GT(recording.output().std(0).min().item<float>(), 1e-3) << "alike outputs test nothing";
}

TEST(ConvClassifierTest, IsAStagedModel) {
  expect_staged(make_conv(),
                {{"image", {3, 2, 8, 12}}, {"block.0", {3, 4, 4, 6}}, {"block.1", {3, 6, 2, 3}}});
}

TEST(VisionTransformerTest, IsAStagedModel) {
  expect_staged(make_transformer(), {{"image", {3, 2, 8, 12}},
                                     {"patches", {3, 6, 8}},
                                     {"layer.0", {3, 6, 8}},
                                     {"layer.1", {3, 6, 8}}});
}

// A change of one patch of the image changes that position of "patches" alone, counted row by row.
TEST(VisionTransformerTest, PositionsArePatchesRowByRow) {
  const auto model = staged(make_transformer());
  const at::Tensor before = model->record({images()}).state("patches");
  for (int64_t row = 0; row < 2; ++row) {
    for (int64_t column = 0; column < 3; ++column) {
      at::Tensor changed = images().clone();
      changed.narrow(2, 4 * row, 4).narrow(3, 4 * column, 4).add_(1);
      const at::Tensor after = model->record({changed}).state("patches");
      const at::Tensor moved = (after - before).abs().amax({0, 2}).gt(1e-6);
      EXPECT_TRUE(moved.equal(at::arange(6).eq(3 * row + column))) << moved;
    }
  }
}

template <typename Make>
void expect_seeded_and_saved(Make make) {
  EXPECT_EQ(staged(make(1))->fingerprint(), staged(make(1))->fingerprint());
  EXPECT_NE(staged(make(1))->fingerprint(), staged(make(2))->fingerprint());
  const TemporaryFolder folder;
  const auto net = make(1), other = make(2);
  save_weights(*net, folder / "a.safetensors");
  load_weights(*other, folder / "a.safetensors");
  EXPECT_EQ(staged(other)->fingerprint(), staged(net)->fingerprint());
}

TEST(ConvClassifierTest, IsSeededAndSaved) { expect_seeded_and_saved(make_conv); }
TEST(VisionTransformerTest, IsSeededAndSaved) { expect_seeded_and_saved(make_transformer); }

template <typename Net>
void expect_all_trained(const Net& net) {
  net->forward(images(8)).square().sum().backward();
  for (const auto& item : net->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_GT(item.value().grad().abs().max().template item<float>(), 0) << item.key();
  }
}

TEST(ConvClassifierTest, GradientsReachEveryParameter) { expect_all_trained(make_conv()); }
TEST(VisionTransformerTest, GradientsReachEveryParameter) {
  expect_all_trained(make_transformer());
}

TEST(VisionTest, RefusesImagesThatDoNotFit) {
  const std::string rule = "images has to be of shape (-1, 2, 8, 12), but got ";
  std::vector<BadInput> table;
  const auto add = [&](const std::string& name, const auto& net) {
    const auto model = staged(net);
    const auto both = [&](const std::string& what, const at::Tensor& x,
                          const std::string& message) {
      table.push_back({name + what + ", forward", [=] { net->forward(x); }, message});
      table.push_back({name + what + ", record", [=] { model->record({x}); }, message});
    };
    both("size", at::zeros({3, 2, 12, 8}), rule + "(3, 2, 12, 8)");
    both("channels", at::zeros({3, 1, 8, 12}), rule + "(3, 1, 8, 12)");
    both("no batch", at::zeros({2, 8, 12}), rule + "(2, 8, 12)");
    both("bytes", at::zeros({3, 2, 8, 12}, at::kByte),
         "images has to be of floating point, but got Byte");
  };
  add("conv ", make_conv());
  add("transformer ", make_transformer());
  expect_refused(table);
}

TEST(ConvClassifierTest, RefusesBadOptions) {
  using O = ConvClassifierOptions;
  const auto with = [](const std::function<void(O&)>& change) {
    return [change] {
      O options;
      change(options);
      ConvClassifier(options, make_generator(0));
    };
  };
  expect_refused({
      {"channels", with([](O& o) { o.image.channels = 0; }), "image.channels has to be >= 1"},
      {"height", with([](O& o) { o.image.height = 0; }), "image.height has to be >= 1"},
      {"odd", with([](O& o) { o.image.width = 30; }),
       "image.width has to be divisible by 4, as each block halves it, but got 30"},
      {"classes", with([](O& o) { o.classes = 1; }), "classes has to be >= 2, but got 1"},
      {"no block", with([](O& o) { o.sizes = {}; }), "sizes has to be of one block or more"},
      {"size", with([](O& o) {
         o.sizes = {4, 0};
       }),
       "sizes has to be >= 1 each, but got 0"},
      {"blocks", with([](O& o) { o.sizes.assign(64, 1); }), "fewer than 32 blocks, but got 64"},
      {"kernel", with([](O& o) { o.kernel = 2; }), "kernel has to be odd and >= 1, but got 2"},
  });
}

TEST(VisionTransformerTest, RefusesBadOptions) {
  using O = VisionTransformerOptions;
  const auto with = [](const std::function<void(O&)>& change) {
    return [change] {
      O options;
      change(options);
      VisionTransformer(options, make_generator(0));
    };
  };
  expect_refused({
      {"width", with([](O& o) { o.image.width = -1; }), "image.width has to be >= 1, but got -1"},
      {"classes", with([](O& o) { o.classes = 1; }), "classes has to be >= 2, but got 1"},
      {"patch", with([](O& o) { o.patch = 5; }),
       "patch has to be >= 1 and a divisor of 28 and 28, the image's sides, but got 5"},
      {"no patch", with([](O& o) { o.patch = 0; }), "but got 0"},
      {"hidden", with([](O& o) { o.hidden_size = 0; }), "hidden_size has to be >= 1"},
      {"layers", with([](O& o) { o.layers = 0; }), "layers has to be >= 1"},
      {"heads", with([](O& o) { o.heads = 3; }), "heads has to be >= 1 and a divisor of 64"},
      {"inner", with([](O& o) { o.inner_size = 0; }), "inner_size has to be >= 1"},
  });
}

}  // namespace
}  // namespace diffmask
