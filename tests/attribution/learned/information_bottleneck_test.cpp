// The information bottleneck, of one example at a time and read out.
#include "diffmask/attribution/learned/information_bottleneck.hpp"

#include <gtest/gtest.h>

#include "src/attribution/learned/bottleneck.hpp"
#include "tests/attribution/example_nets.hpp"
#include "tests/bad_input.hpp"
#include "tests/finite_difference.hpp"

// A namespace of its own: test sources share a unit of the compiler.
namespace diffmask::bottleneck_test {
namespace {

constexpr int64_t kSize = 24, kPositions = 4, kFeatures = 2;

// Sequences of 1 to 4 positions, whose states beyond their length are far from all others.
PaddedDataset data_of(uint64_t seed) {
  const at::Generator generator = make_generator(seed);
  const at::Tensor lengths = at::randint(2, kPositions + 1, {kSize}, generator, at::kLong);
  at::Tensor values = at::randn({kSize, kPositions, kFeatures}, generator) * 2 + 1;
  const at::Tensor padded = at::arange(kPositions).unsqueeze(0).ge(lengths.unsqueeze(1));
  values.masked_fill_(padded.unsqueeze(2), 1000);
  return {{{values, /*is_sequence=*/true}}, lengths, {}, /*mask_is_input=*/false};
}

// Two classes, told by the first feature of the second position alone.
std::shared_ptr<StagedModel> second_position() {
  return net_of([](const at::Tensor& x) {
    const at::Tensor y = 4 * x.select(1, 1).select(1, 0);
    return at::stack({y, -y}, 1);
  });
}

TEST(StateStatisticsTest, LeavesOutPadding) {
  const PaddedDataset data = data_of(1);
  const auto found = state_statistics(*second_position(), at_input(), data, 7).at("input");
  const Batch all = data.batch(iota(kSize));
  const at::Tensor states = all.inputs[0].index({all.mask});
  EXPECT_TRUE(at::allclose(found.mean, states.mean(0), 0, 1e-5));
  EXPECT_TRUE(at::allclose(found.deviation, states.std(0, /*unbiased=*/false), 0, 1e-5));
}

TEST(StateStatisticsTest, AnImagesChannelsAreTheirCells) {
  const auto model = net_of([](const at::Tensor& x) { return x.flatten(1); });
  const at::Tensor images = at::randn({6, 3, 4, 4}, make_generator(2));
  class Images : public Dataset {
   public:
    explicit Images(at::Tensor values) : values_(std::move(values)) {}
    int64_t size() const override { return values_.size(0); }
    int64_t length(int64_t) const override { return 4; }
    Batch batch(const std::vector<int64_t>& examples) const override {
      const at::Tensor numbers = at::tensor(examples, at::kLong);
      return {{values_.index_select(0, numbers)},
              at::ones({numbers.size(0), 4}, at::kBool),
              numbers,
              {}};
    }

   private:
    at::Tensor values_;
  };
  AttributionOptions options = at_input();
  options.positions = {{Positions::Layout::image, 2}};
  const auto found = state_statistics(*model, options, Images(images), 4).at("input");
  EXPECT_TRUE(at::allclose(found.mean, images.mean({0, 2, 3}), 0, 1e-5));
  EXPECT_TRUE(at::allclose(found.deviation, images.std({0, 2, 3}, false), 0, 1e-5));
}

TEST(BottleneckTest, KlIsThatOfTheTwoNormals) {
  const at::Tensor mean = at::tensor({1.0, -2.0}), deviation = at::tensor({0.5, 3.0});
  const Bottleneck noise({mean, deviation}, "input", {}, 0);
  const at::Tensor h = at::randn({2, 3, 2}, make_generator(1)), ones = at::ones({2, 3, 1});
  for (const double alpha : {-4.0, 0.0, 3.0}) {
    const double open = 1 / (1 + std::exp(-alpha));
    // KL(N(m, s^2) || N(mu, sigma^2)) = log(sigma / s) + (s^2 + (m - mu)^2) / (2 sigma^2) - 1/2
    const at::Tensor m = open * h + (1 - open) * mean, s = (1 - open) * deviation;
    const at::Tensor expected = at::log(deviation / s) - 0.5 +
                                (s.square() + (m - mean).square()) / (2 * deviation.square());
    const at::Tensor found = noise.kl(at::full({2, 3, 1}, alpha), ones, h);
    EXPECT_TRUE(at::allclose(found, expected, 1e-4, 1e-5)) << alpha;
    // Z has that mean and deviation: at noise 0 and at noise 1.
    const at::Tensor z = noise.noisy(at::full({2, 3, 1}, alpha), ones, h, at::zeros_like(h));
    const at::Tensor above = noise.noisy(at::full({2, 3, 1}, alpha), ones, h, at::ones_like(h));
    EXPECT_TRUE(at::allclose(z, m, 0, 1e-5));
    EXPECT_TRUE(at::allclose(above - z, s.expand_as(z), 0, 1e-5));
  }
  EXPECT_TRUE(noise.noisy(at::zeros({2, 3, 1}), at::zeros({2, 3, 1}), h, h).equal(h));
  EXPECT_EQ(noise.kl(at::zeros({2, 3, 1}), at::zeros({2, 3, 1}), h).abs().max().item<float>(), 0);
  expect_gradient(
      [&](const at::Tensor& alpha) {
        return noise.kl(alpha, ones.to(at::kDouble), h.to(at::kDouble)).sum();
      },
      at::linspace(-3, 3, 6, at::kDouble).view({2, 3, 1}));
}

class BottleneckMethodTest : public testing::Test {
 protected:
  Attribution explained(const InformationBottleneckOptions& own, const Batch& batch) const {
    InformationBottleneck method(model_, at_input(), own);
    method.fit(data_);
    return method.attribute(batch);
  }

  // Bits of the second position, and the most of any other.
  static std::pair<at::Tensor, at::Tensor> second_and_rest(const Attribution& found) {
    const at::Tensor scores = found.scores.select(2, 0);
    const at::Tensor rest = scores.clone();
    rest.select(1, 1).zero_();
    return {scores.select(1, 1), rest.amax({1})};
  }

  std::shared_ptr<StagedModel> model_ = second_position();
  PaddedDataset data_ = data_of(1);
  Batch batch_ = data_.batch(iota(kSize));
};

TEST_F(BottleneckMethodTest, BitsAreAtTheOnePositionThatIsRead) {
  const Attribution found = explained({}, batch_);
  const auto [second, rest] = second_and_rest(found);
  EXPECT_GT(second.mean().item<double>(), 1.0) << found.scores.squeeze(2);
  EXPECT_LT(rest.max().item<double>(), 0.05);
  EXPECT_EQ(
      found.scores.masked_select(batch_.mask.logical_not().unsqueeze(2)).abs().sum().item<float>(),
      0);
  EXPECT_TRUE(at::allclose(found.features.at(0).sum(2), found.scores.squeeze(2), 0, 1e-4));
  EXPECT_EQ(found.passes, kSize * (1 + 100 * 10));
  InformationBottleneckOptions features;
  features.per_feature = true;
  const at::Tensor by_feature = explained(features, batch_).features.at(0).select(1, 1);
  EXPECT_GT(by_feature.select(1, 0).mean().item<double>(), 1.0);
  EXPECT_LT(by_feature.select(1, 1).max().item<double>(), 0.05);
}

TEST_F(BottleneckMethodTest, ADearerBitIsPassedOnLess) {
  InformationBottleneckOptions dear;
  dear.beta = 5;
  EXPECT_LT(explained(dear, batch_).scores.sum().item<double>(),
            0.8 * explained({}, batch_).scores.sum().item<double>());
}

TEST_F(BottleneckMethodTest, ThePublishedSettingsRun) {
  const auto published = InformationBottleneckOptions::published();
  EXPECT_EQ(published.beta, 10);
  EXPECT_EQ(published.steps, 10);
  EXPECT_EQ(published.draws, 10);
  EXPECT_TRUE(published.per_feature);
  const auto [second, rest] = second_and_rest(explained(published, batch_));
  EXPECT_GT(second.mean().item<double>(), rest.mean().item<double>());
}

TEST_F(BottleneckMethodTest, SameSeedSameBitsHoweverRowsAreCut) {
  const auto scores = [&](uint64_t seed, int64_t rows) {
    InformationBottleneckOptions own;
    own.steps = 5;
    own.seed = seed;
    AttributionOptions options = at_input();
    options.passes.max_batch = rows;
    InformationBottleneck method(model_, options, own);
    method.fit(data_);
    return method.attribute(batch_).scores;
  };
  EXPECT_TRUE(scores(1, 64).equal(scores(1, 64)));
  EXPECT_FALSE(scores(1, 64).equal(scores(2, 64)));
  EXPECT_TRUE(at::allclose(scores(1, 64), scores(1, 7), 0, 1e-4));
}

TEST_F(BottleneckMethodTest, PositionsOfAGroupShareTheirNoise) {
  const at::Tensor x = at::randn({3, 4, 2}, make_generator(3)) * 2 + 1;
  Batch batch = batch_of(x);
  batch.groups = at::tensor({0, 1, 1, -1}, at::kLong).expand({3, 4}).contiguous();
  const Attribution found = explained({}, batch);
  const at::Tensor keep = found.keep.select(2, 0);
  EXPECT_TRUE(keep.select(1, 1).equal(keep.select(1, 2)));
  EXPECT_TRUE(keep.select(1, 3).all().item<bool>());  // of no group: never given noise
  EXPECT_EQ(found.scores.select(1, 3).abs().max().item<float>(), 0);
  EXPECT_GT(found.scores.select(1, 2).min().item<float>(),
            found.scores.select(1, 0).max().item<float>());
}

TEST_F(BottleneckMethodTest, AReadOutFindsThePositionOfNewExamples) {
  // The third feature, which the model does not read, tells the probe where a state stands.
  const at::Tensor place = at::zeros({200, 4, 1});
  place.select(1, 1).fill_(1);
  const at::Tensor x = at::cat({at::randn({200, 4, 2}, make_generator(5)), place}, 2);
  const PaddedDataset data({{x, true}}, at::full({200}, 4, at::kLong), {}, false);
  const Subset training(borrowed(data), iota(160));
  const auto fitted = [&](uint64_t seed) {
    ReadOutBottleneck method(model_, at_input());
    method.fit(training, {.steps = 300, .rate = 0.03, .seed = seed});
    return method.attribute(data.batch({160, 170, 180, 190, 199}));
  };
  const Attribution found = fitted(1);
  const auto [second, rest] = second_and_rest(found);
  EXPECT_GT(second.min().item<double>(), 1.0) << found.scores.squeeze(2);
  EXPECT_LT(rest.max().item<double>(), 0.2) << found.scores.squeeze(2);
  EXPECT_EQ(found.passes, 5);  // recorded, no more
  EXPECT_TRUE(found.scores.equal(fitted(1).scores));
  EXPECT_FALSE(found.scores.equal(fitted(2).scores));
}

TEST_F(BottleneckMethodTest, RefusesBadInput) {
  const auto with = [&](const std::function<void(InformationBottleneckOptions&)>& change) {
    return [&, change] {
      InformationBottleneckOptions own;
      change(own);
      InformationBottleneck(model_, at_input(), own);
    };
  };
  at::Tensor constant = at::randn({8, 4, 2}, make_generator(1));
  constant.select(2, 1).fill_(0.1);
  const PaddedDataset flat({{constant, true}}, at::full({8}, 4, at::kLong), {}, false);
  const auto on_flat = [&](double floor) {
    InformationBottleneckOptions own;
    own.floor = floor;
    InformationBottleneck method(model_, at_input(), own);
    method.fit(flat);
    return method.attribute(flat.batch({0, 1}));
  };
  AmortisedOptions none;
  none.steps = 0;
  Batch nan = batch_;
  nan.inputs = {batch_.inputs[0] * NAN};
  expect_refused({
      {"beta", with([](auto& own) { own.beta = 0; }), "beta has to be > 0, but got 0"},
      {"steps", with([](auto& own) { own.steps = 0; }), "steps has to be >= 1"},
      {"draws", with([](auto& own) { own.draws = 0; }), "draws has to be >= 1"},
      {"rate", with([](auto& own) { own.rate = NAN; }), "rate has to be > 0"},
      {"floor", with([](auto& own) { own.floor = -1; }), "floor has to be >= 0"},
      {"divergence", with([](auto& own) { own.divergence = nullptr; }), "divergence has to be"},
      {"sigma of 0", [&] { on_flat(0); },
       "deviation at 'input' has to be > 0 in each channel, or `floor` be, but got 0 in channel 1"},
      {"sigma of 0, read out", [&] { ReadOutBottleneck(model_, at_input()).fit(flat); },
       "0 in channel 1"},
      {"steps of a fit", [&] { ReadOutBottleneck(model_, at_input()).fit(data_, none); },
       "steps has to be >= 1"},
      {"no data",
       [&] { InformationBottleneck(model_, at_input()).fit(Subset(borrowed(data_), {})); },
       "has to be"},
      {"NaN", [&] { explained({}, nan); }, "has to be finite"},
      {"span",
       [&] {
         InformationBottleneckOptions own;
         own.divergence = divergence::span;
         explained(own, batch_);
       },
       "original has to be of 3 dimensions"},
  });
  EXPECT_TRUE(at::isfinite(on_flat(1e-3).scores).all().item<bool>());
  expect_refused<Error>({
      {"not fitted", [&] { InformationBottleneck(model_, at_input()).attribute(batch_); },
       "has to be fitted first"},
      {"not fitted, read out", [&] { ReadOutBottleneck(model_, at_input()).attribute(batch_); },
       "has to be fitted first"},
  });
}

}  // namespace
}  // namespace diffmask::bottleneck_test
