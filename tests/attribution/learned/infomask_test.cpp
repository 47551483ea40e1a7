#include "diffmask/attribution/learned/infomask.hpp"

#include <gtest/gtest.h>

#include "tests/attribution/example_nets.hpp"
#include "tests/bad_input.hpp"
#include "tests/finite_difference.hpp"

namespace diffmask {
namespace {

TEST(InfoMaskTest, KlIsThatOfTwoBernoullis) {
  for (const double logit : {-3.0, 0.0, 2.0}) {
    const double q = 1 / (1 + std::exp(-logit)), p = 0.1;
    const double expected = q * std::log(q / p) + (1 - q) * std::log((1 - q) / (1 - p));
    EXPECT_NEAR(infomask::kl(at::full({1}, logit, at::kDouble), p).item<double>(), expected, 1e-12);
  }
  const at::Tensor at_prior = at::full({1}, std::log(0.2 / 0.8), at::kDouble);
  EXPECT_NEAR(infomask::kl(at_prior, 0.2).item<double>(), 0, 1e-15);
  expect_gradient([](const at::Tensor& x) { return infomask::kl(x, 0.1).sum(); },
                  at::linspace(-3, 3, 7, at::kDouble));
}

// The last feature is 1 at the one position that is read.
class InfoMaskFitTest : public testing::Test {
 protected:
  InfoMaskFitTest() {
    const at::Tensor values = at::randn({200, 4, 1}, make_generator(5));
    used_ = at::randint(0, 4, {200, 1}, make_generator(6), at::kLong);
    const at::Tensor flag = at::zeros({200, 4}).scatter_(1, used_, 1.0).unsqueeze(2);
    data_ = std::make_shared<PaddedDataset>(
        std::vector<PaddedDataset::Column>{{at::cat({values, flag}, 2), true}},
        at::full({200}, 4, at::kLong), at::Tensor(), false);
  }

  static std::shared_ptr<StagedModel> model() {
    return net_of([](const at::Tensor& h) {
      const at::Tensor y = 4 * (h.select(2, 0) * h.select(2, 1)).sum(1);
      return at::stack({y, -y}, 1);
    });
  }

  at::Tensor scores(uint64_t seed) const {
    InfoMask method(model(), at_input());
    method.fit(Subset(data_, iota(160)), {.steps = 200, .seed = seed});
    return method.attribute(data_->batch({160, 170, 180, 190, 199})).scores.select(2, 0);
  }

  at::Tensor used_;
  std::shared_ptr<PaddedDataset> data_;
};

TEST_F(InfoMaskFitTest, KeepsThePositionThatIsReadInNewExamples) {
  const at::Tensor found = scores(1);
  const at::Tensor truth = used_.index_select(0, at::tensor({160, 170, 180, 190, 199}, at::kLong));
  EXPECT_GT(found.gather(1, truth).min().item<double>(), 0.5) << found;
  EXPECT_LT(found.scatter(1, truth, 0.0).max().item<double>(), 0.3) << found;
  EXPECT_TRUE(found.equal(scores(1)));
  EXPECT_FALSE(found.equal(scores(2)));
}

TEST_F(InfoMaskFitTest, StopsWhereACallbackSaysSo) {
  InfoMask method(model(), at_input());
  int64_t steps = 0;
  const Callback stop = [&](const Progress& now) {
    steps = now.step;
    return now.step == 7 ? Action::stop : Action::proceed;
  };
  method.fit(*data_, {.steps = 100, .callbacks = {stop}});
  EXPECT_EQ(steps, 7);
  EXPECT_EQ(method.attribute(data_->batch({0})).scores.sizes(), at::IntArrayRef({1, 4, 1}));
}

TEST_F(InfoMaskFitTest, RefusesBadInput) {
  const auto with = [](InfoMaskOptions own) { return [=] { InfoMask(model(), at_input(), own); }; };
  const auto fit = [&](AmortisedOptions options) {
    return [&, options] { InfoMask(model(), at_input()).fit(*data_, options); };
  };
  expect_refused({
      {"beta", with({.beta = 0}), "beta has to be > 0"},
      {"prior", with({.prior = 1}), "prior has to be in (0, 1), but got 1"},
      {"tau", with({.tau = -1}), "tau has to be > 0"},
      {"divergence", with({.divergence = nullptr}), "divergence has to be a function"},
      {"rate", fit({.rate = 0}), "rate has to be > 0"},
      {"final rate", fit({.final_rate = 2}), "final_rate has to be in (0, 1]"},
      {"no data", [&] { InfoMask(model(), at_input()).fit(Subset(data_, {})); }, "has to be"},
  });
  expect_refused<Error>(
      {{"not fitted", [&] { InfoMask(model(), at_input()).attribute(data_->batch({0})); },
        "has to be fitted first"}});
}

}  // namespace
}  // namespace diffmask
