#include "diffmask/zoo/nets/supervised.hpp"

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

  static ModuleForward forward_of(const Net& net) {
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
      predict(*net, forward_of(net), *validation_).gt(0).eq(validation_->labels().gt(0));
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

// A selection that falls with each epoch keeps the last, one that rises the first.
TEST_F(SupervisedTest, KeepsTheEpochThatIsSelected) {
  for (const int64_t sign : {1, -1}) {
    const auto net = make_net();
    std::vector<double> given;
    SupervisedOptions options = options_;
    options.selection = [&](const at::Tensor& outputs, const at::Tensor& labels) {
      EXPECT_EQ(outputs.size(0), labels.size(0));
      given.push_back(static_cast<double>(sign * static_cast<int64_t>(given.size())));
      return given.back();
    };
    const SupervisedSummary summary = run(net, options);
    ASSERT_EQ(given.size(), 12);
    EXPECT_EQ(summary.epoch, sign > 0 ? 1 : 12);
    EXPECT_EQ(summary.loss, sign > 0 ? given.front() : given.back());
  }
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

// By a loop of LibTorch's own optimiser over whole epochs. In the order of a sum they differ.
TEST_F(SupervisedTest, StepsAsLibTorchsAdamW) {
  SupervisedOptions options{.epochs = 6, .batch_size = 400, .rate = 0.1, .weight_decay = 0.3};
  options.decay_vectors = false;
  options.clip_norm = 1e9;
  double selected = 0;
  options.selection = [&](const at::Tensor&, const at::Tensor&) { return --selected; };
  const auto net = make_net(), twin = make_net();
  run(net, options);
  torch::optim::AdamW optimiser(std::vector<at::Tensor>{}, torch::optim::AdamWOptions());
  for (const auto& [parameter, decay] : {std::pair{twin->weight, 0.3}, {twin->bias, 0.0}}) {
    optimiser.add_param_group(torch::optim::OptimizerParamGroup(
        {parameter}, std::make_unique<torch::optim::AdamWOptions>(
                         torch::optim::AdamWOptions(0.1).weight_decay(decay))));
  }
  const Batch batch = training_->batch(iota(400));
  for (int64_t step = 0; step < 6; ++step) {
    for (auto& group : optimiser.param_groups()) group.options().set_lr(options.rate_of(step, 6));
    optimiser.zero_grad();
    loss(forward_of(twin)(batch.inputs), batch.labels).backward();
    optimiser.step();
  }
  EXPECT_LT((net->weight - twin->weight).abs().max().item<double>(), 1e-5);
  EXPECT_LT((net->bias - twin->bias).abs().max().item<double>(), 1e-5);
  EXPECT_GT((net->weight - make_net()->weight).abs().max().item<double>(), 0.1);
}

TEST_F(SupervisedTest, ReadsEachExampleOnceAnEpoch) {
  for (const int64_t pool : {1, 4}) {
    const auto net = make_net();
    SupervisedOptions options = options_;
    options.epochs = 2;
    options.pool = pool;
    double sum = 0, rows = 0;
    const ModuleForward forward = [&](const Inputs& x) {
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

TEST_F(SupervisedTest, PoolsMakeBucketsOfLikeLengths) {
  const auto padding = [&](int64_t pool) {
    const auto net = make_net();
    SupervisedOptions options = options_;
    options.epochs = 1;
    options.pool = pool;
    double sum = 0;
    const ModuleForward forward = [&](const Inputs& x) {
      if (net->is_training()) sum += static_cast<double>(x[0].size(0) * x[0].size(1));
      return forward_of(net)(x);
    };
    train_supervised(*net, forward, loss, *training_, *validation_, options);
    return sum - training_->lengths().sum().item<double>();
  };
  EXPECT_LT(padding(13), 0.5 * padding(1));
}

TEST(SupervisedOptionsTest, TheStepSizeRisesAndFalls) {
  const SupervisedOptions falling{.rate = 2, .final_rate = 0.5};
  EXPECT_EQ(falling.rate_of(0, 10), 2);
  EXPECT_DOUBLE_EQ(falling.rate_of(5, 10), 1.5);
  EXPECT_DOUBLE_EQ(falling.rate_of(9, 10), 1.1);
  const SupervisedOptions warmed{.rate = 2, .final_rate = 0.5, .warm_up = 0.3};
  for (const auto& [step, rate] : {std::pair{0, 0.5}, {1, 1.0}, {2, 1.5}, {3, 2.0}}) {
    EXPECT_DOUBLE_EQ(warmed.rate_of(step, 10), rate) << step;
  }
  EXPECT_DOUBLE_EQ(warmed.rate_of(9, 10), 2 * (1 - 0.5 * 6 / 7));
  const SupervisedOptions long_warm_up{.warm_up = 0.99};
  EXPECT_LT(long_warm_up.rate_of(1, 2), long_warm_up.rate) << "no step falls";
}

// The loss does not depend on the parameters, so that they only decay.
TEST_F(SupervisedTest, VectorsDecayUnlessTheyAreSpared) {
  for (const bool decay_vectors : {true, false}) {
    const auto net = make_net();
    for (at::Tensor& parameter : net->parameters()) parameter.data().fill_(1);
    double seen = 0;
    const SupervisedLoss flat = [&](const at::Tensor& output, const at::Tensor&) {
      return 0 * output.mean() + 1 - 0.001 * seen++;  // each epoch the best
    };
    SupervisedOptions options = options_;
    options.weight_decay = 0.1;
    options.decay_vectors = decay_vectors;
    train_supervised(*net, forward_of(net), flat, *training_, *validation_, options);
    EXPECT_LT(net->weight.max().item<float>(), 0.9);
    EXPECT_EQ(net->bias.item<float>() == 1, !decay_vectors);
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
  const at::Tensor all = predict(*net, forward_of(net), *training_, 7);
  EXPECT_EQ(all.sizes(), at::IntArrayRef({400}));
  EXPECT_FALSE(all.requires_grad());
  for (const int64_t i : {0, 17, 399}) {
    const at::Tensor alone = forward_of(net)(training_->batch({i}).inputs);
    EXPECT_NEAR(alone.item<float>(), all[i].item<float>(), 1e-6);
  }
}

// A net on another device, for which "meta" stands: an operation on both devices throws.
TEST_F(SupervisedTest, PredictsOnTheModulesDevice) {
  struct Net : torch::nn::Module {
    at::Tensor weight = register_parameter("weight", at::ones({3}, at::TensorOptions(c10::kMeta)));
  };
  const Net net;
  const ModuleForward forward = [&](const Inputs& x) { return x[0].select(1, 0) * net.weight; };
  const at::Tensor output = predict(net, forward, *training_, 7);
  EXPECT_TRUE(output.is_meta());
  EXPECT_EQ(output.sizes(), at::IntArrayRef({400, 3}));
}

TEST_F(SupervisedTest, RefusesALossThatIsNotFinite) {
  const auto net = make_net();
  const SupervisedLoss broken = [](const at::Tensor& y, const at::Tensor&) {
    return (y * NAN).mean();
  };
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
      {"warm-up 1", with({.warm_up = 1}), "warm_up has to be in [0, 1), but got 1"},
      {"warm-up NaN", with({.warm_up = NAN}), "warm_up has to be in [0, 1), but got nan"},
      {"decay", with({.weight_decay = -1}), "weight_decay has to be >= 0, but got -1"},
      {"clip", with({.clip_norm = 0}), "clip_norm has to be > 0, but got 0"},
      {"clip", with({.clip_norm = INFINITY}), "clip_norm has to be > 0, but got inf"},
      {"pool", with({.pool = 0}), "pool has to be >= 1, but got 0"},
  });
}

}  // namespace
}  // namespace diffmask
