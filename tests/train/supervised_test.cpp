#include "diffmask/train/supervised.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/bad_input.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

// Whether the first position's numbers add up to more than 0: a linear net can tell.
class SupervisedTest : public testing::Test {
 protected:
  using Net = std::shared_ptr<torch::nn::LinearImpl>;

  Net make_net() const {
    const auto net = std::make_shared<torch::nn::LinearImpl>(3, 1);
    at::NoGradGuard no_grad;
    net->weight.uniform_(-0.1, 0.1, make_generator(4));
    net->bias.zero_();
    return net;
  }

  static Forward forward_of(const Net& net) {
    return [net](const Inputs& x) { return net->forward(x[0].select(1, 0)).squeeze(1); };
  }

  static at::Tensor loss(const at::Tensor& logits, const at::Tensor& labels) {
    return at::binary_cross_entropy_with_logits(logits, labels.to(at::kFloat));
  }

  double validation_loss(const Net& net) const {
    at::NoGradGuard no_grad;
    const Batch batch = validation_->batch(iota(validation_->size()));
    return loss(forward_of(net)(batch.inputs), batch.labels).item<double>();
  }

  SupervisedSummary run(const Net& net, SupervisedOptions options,
                        const std::vector<Callback>& callbacks = {}) const {
    return train_supervised(*net, forward_of(net), loss, *training_, *validation_, options,
                            callbacks);
  }

  std::shared_ptr<PaddedDataset> training_ = training_data(400, 1),
                                 validation_ = training_data(100, 2);
  const SupervisedOptions options_{.epochs = 12, .batch_size = 32, .rate = 0.1};
};

TEST_F(SupervisedTest, LearnsASeparableTask) {
  const auto net = make_net();
  const double before = validation_loss(net);
  net->train();
  const SupervisedSummary summary = run(net, options_);
  EXPECT_LT(summary.loss, before / 4);
  EXPECT_FALSE(net->is_training());
  EXPECT_FALSE(summary.interrupted);
  EXPECT_GT(summary.seconds, 0);
  for (const at::Tensor& parameter : net->parameters()) {
    EXPECT_FALSE(parameter.grad().defined());
    EXPECT_TRUE(parameter.requires_grad());
  }
  const at::Tensor right =
      predict(forward_of(net), *validation_).gt(0).eq(validation_->labels().gt(0));
  EXPECT_GT(right.to(at::kDouble).mean().item<double>(), 0.94);
}

// Steps this long make the loss rise again and again, so that the last epoch is seldom the best.
TEST_F(SupervisedTest, KeepsTheBestEpoch) {
  std::set<bool> last;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const auto net = make_net();
    SupervisedOptions options{.epochs = 5, .batch_size = 8, .rate = 3, .final_rate = 1};
    options.seed = seed;
    const SupervisedSummary summary = run(net, options);
    last.insert(summary.epoch == 5);
    // The summary's mean is over batches of like lengths, so it may differ in its last bits.
    EXPECT_NEAR(validation_loss(net), summary.loss, 1e-6 * std::max(1.0, summary.loss));
  }
  EXPECT_TRUE(last.contains(false));
}

TEST_F(SupervisedTest, SameSeedSameBits) {
  const auto weights = [&](uint64_t seed, int64_t pool) {
    const auto net = make_net();
    SupervisedOptions options = options_;
    options.seed = seed;
    options.pool = pool;
    run(net, options);
    return parameters_of(*net);
  };
  EXPECT_TRUE(same_bits(weights(1, 1), weights(1, 1)));
  EXPECT_FALSE(same_bits(weights(1, 1), weights(2, 1)));
  EXPECT_TRUE(same_bits(weights(1, 4), weights(1, 4)));
  EXPECT_FALSE(same_bits(weights(1, 1), weights(1, 4)));
}

TEST_F(SupervisedTest, ReadsEachExampleOnceAnEpoch) {
  for (const int64_t pool : {1, 4}) {
    const auto net = make_net();
    SupervisedOptions options = options_;
    options.epochs = 2;
    options.pool = pool;
    double sum = 0, rows = 0;
    const Forward forward = [&](const Inputs& x) {
      if (net->is_training()) {
        sum += x[0].select(1, 0).sum().item<double>();
        rows += static_cast<double>(x[0].size(0));
      }
      return forward_of(net)(x);
    };
    train_supervised(*net, forward, loss, *training_, *validation_, options);
    EXPECT_EQ(rows, 800);
    const Batch all = training_->batch(iota(400));
    EXPECT_NEAR(sum, 2 * all.inputs[0].select(1, 0).sum().item<double>(), 1e-2);
  }
}

TEST_F(SupervisedTest, StopsWhereACallbackSaysSo) {
  const auto net = make_net();
  const auto before = parameters_of(*net);
  int64_t seen = 0;
  const Callback stop = [&](const Progress& now) {
    EXPECT_EQ(now.step, ++seen);
    EXPECT_EQ(now.steps, 12 * 13);
    return now.step == 3 ? Action::stop : Action::proceed;
  };
  const SupervisedSummary summary = run(net, options_, {stop});
  EXPECT_EQ(seen, 3);
  EXPECT_TRUE(summary.interrupted);
  EXPECT_EQ(summary.epoch, 1);
  EXPECT_NEAR(validation_loss(net), summary.loss, 1e-6);
  EXPECT_FALSE(same_bits(parameters_of(*net), before));
  EXPECT_FALSE(net->is_training());
}

TEST_F(SupervisedTest, PredictsInTheDataSetsOrder) {
  const auto net = make_net();
  net->eval();
  const at::Tensor all = predict(forward_of(net), *training_, 7);
  EXPECT_EQ(all.sizes(), at::IntArrayRef({400}));
  EXPECT_FALSE(all.requires_grad());
  for (const int64_t i : {0, 17, 399}) {
    const at::Tensor alone = forward_of(net)(training_->batch({i}).inputs);
    EXPECT_NEAR(alone.item<float>(), all[i].item<float>(), 1e-6);
  }
}

TEST_F(SupervisedTest, RefusesALossThatIsNotFinite) {
  const auto net = make_net();
  const Loss broken = [](const at::Tensor& y, const at::Tensor&) { return (y * NAN).mean(); };
  expect_refused<Error>({{"NaN",
                          [&] {
                            train_supervised(*net, forward_of(net), broken, *training_,
                                             *validation_, options_);
                          },
                          "the validation loss of epoch 1 is nan"}});
}

TEST_F(SupervisedTest, RefusesBadOptions) {
  const auto with = [&](SupervisedOptions options) {
    return [this, options] { run(make_net(), options); };
  };
  expect_refused({
      {"epochs", with({.epochs = 0}), "epochs has to be >= 1, but got 0"},
      {"batch size", with({.batch_size = 0}), "batch_size has to be >= 1, but got 0"},
      {"rate 0", with({.rate = 0}), "rate has to be > 0, but got 0"},
      {"rate NaN", with({.rate = NAN}), "rate has to be > 0, but got nan"},
      {"final rate 0", with({.final_rate = 0}), "final_rate has to be in (0, 1], but got 0"},
      {"final rate 2", with({.final_rate = 2}), "final_rate has to be in (0, 1], but got 2"},
      {"decay", with({.weight_decay = -1}), "weight_decay has to be >= 0, but got -1"},
      {"clip", with({.clip_norm = 0}), "clip_norm has to be > 0, but got 0"},
      {"clip", with({.clip_norm = INFINITY}), "clip_norm has to be > 0, but got inf"},
      {"pool", with({.pool = 0}), "pool has to be >= 1, but got 0"},
  });
}

}  // namespace
}  // namespace diffmask
