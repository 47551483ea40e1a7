#include "diffmask/metrics/known_answer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "diffmask/zoo/data/counting.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

at::Tensor matrix(const std::vector<double>& values, int64_t rows) {
  return at::tensor(values, at::kDouble).view({rows, -1});
}

at::Tensor everywhere(const at::Tensor& values) { return at::ones(values.sizes(), at::kBool); }

TEST(KnownAnswerTest, GivesWhatIsComputedByHand) {
  // p = (1/2, 1/2), q = (3/4, 1/4), m = (5/8, 3/8).
  const at::Tensor truth = matrix({1, 1}, 1), attribution = matrix({0.6, 0.2}, 1);
  const KnownAnswer answer = known_answer(truth, attribution, everywhere(truth));
  EXPECT_EQ(answer.rows, 1);
  EXPECT_NEAR(answer.kl, 0.5 * std::log(2.0 / 3) + 0.5 * std::log(2.0), 1e-15);
  const double of_p = 0.5 * std::log(0.5 / 0.625) + 0.5 * std::log(0.5 / 0.375);
  const double of_q = 0.75 * std::log(0.75 / 0.625) + 0.25 * std::log(0.25 / 0.375);
  EXPECT_NEAR(answer.js, (of_p + of_q) / 2, 1e-15);
}

TEST(KnownAnswerTest, IsZeroWhereItIsTheTruthUpToScale) {
  const at::Tensor truth = matrix({1, 0, 3, 2, 2, 0}, 2);
  const KnownAnswer answer = known_answer(truth, truth * 0.1, everywhere(truth));
  EXPECT_NEAR(answer.kl, 0, 1e-15);
  EXPECT_NEAR(answer.js, 0, 1e-15);
  EXPECT_EQ(answer.rows, 2);
}

TEST(KnownAnswerTest, IsInfiniteWhereSomethingOfTheTruthIsLeftOut) {
  const at::Tensor truth = matrix({1, 1, 0}, 1);
  const KnownAnswer half = known_answer(truth, matrix({1, 0, 0}, 1), everywhere(truth));
  EXPECT_EQ(half.kl, INFINITY);
  // KL(p||m) = log(2/3)/2 + log(2)/2, KL(q||m) = log(4/3).
  EXPECT_NEAR(half.js, (std::log(4.0 / 3) / 2 + std::log(4.0 / 3)) / 2, 1e-15);
  const KnownAnswer disjoint = known_answer(truth, matrix({0, 0, 1}, 1), everywhere(truth));
  EXPECT_EQ(disjoint.kl, INFINITY);
  EXPECT_NEAR(disjoint.js, std::log(2.0), 1e-15);
}

TEST(KnownAnswerTest, LeavesOutPaddingAndRowsWithoutATruth) {
  const at::Tensor mask = at::tensor({1, 1, 0, 1, 1, 1, 1, 1, 0}).view({3, 3}).to(at::kBool);
  const at::Tensor truth = matrix({1, 1, 0, 0, 0, 0, 0, 0, 1}, 3);  // the last one's is in padding
  const at::Tensor attribution = matrix({0.6, 0.2, 9, 1, 2, 3, 1, 1, 1}, 3);
  const KnownAnswer answer = known_answer(truth, attribution, mask);
  EXPECT_EQ(answer.kls.size(0), answer.rows);
  EXPECT_NEAR(answer.kls.mean().item<double>(), answer.kl, 1e-15);
  EXPECT_NEAR(answer.jss.mean().item<double>(), answer.js, 1e-15);
  EXPECT_EQ(answer.rows, 1);
  EXPECT_NEAR(answer.kl, 0.5 * std::log(2.0 / 3) + 0.5 * std::log(2.0), 1e-15);
}

TEST(KnownAnswerTest, AnAttributionOfZeroEverywhereIsUniform) {
  const at::Tensor truth = matrix({1, 0, 0, 0}, 1);
  const at::Tensor mask = at::tensor({1, 1, 0, 1}).view({1, 4}).to(at::kBool);
  EXPECT_NEAR(known_answer(truth, at::zeros({1, 4}), mask).kl, std::log(3.0), 1e-15);
  EXPECT_NEAR(known_answer(truth, mask, mask).kl, std::log(3.0), 1e-15);
}

TEST(KnownAnswerTest, ReadsAnyDtype) {
  const at::Tensor truth = matrix({1, 1}, 1), attribution = matrix({3, 1}, 1);
  const double expected = known_answer(truth, attribution, everywhere(truth)).kl;
  for (const at::ScalarType dtype : {at::kFloat, at::kLong}) {
    EXPECT_NEAR(known_answer(truth.to(at::kBool), attribution.to(dtype), everywhere(truth)).kl,
                expected, 1e-15);
  }
}

// What the paper's table leaves out, on the data set of shared/data/toy.
TEST(KnownAnswerTest, GivesTheControlsOfTheGivenData) {
  const char* source = std::getenv("DIFFMASK_SOURCE");
  const char* given = std::getenv("DIFFMASK_DATA");
  const std::string path =
      (given ? std::string(given) : std::string(source ? source : ".") + "/../shared/data") +
      "/toy/examples.csv";
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << "no " << path << ": set DIFFMASK_DATA to the folder with toy/examples.csv";
  }
  const CountingData data = read_counting(path, "validation");
  const at::Tensor mask = data.dataset().batch(iota(data.size())).mask, truth = data.relevant();
  const KnownAnswer uniform = known_answer(truth, mask, mask);
  EXPECT_EQ(uniform.rows, 914);
  EXPECT_NEAR(uniform.kl, 0.6519, 5e-5);
  EXPECT_NEAR(uniform.js, 0.1944, 5e-5);
  // The first token of the digit that there is more of, m's where it is a tie.
  const at::Tensor winner = data.queries.gather(1, (1 - data.labels).unsqueeze(1));
  const at::Tensor holds = data.digits.eq(winner).logical_and(mask).to(at::kLong);
  const at::Tensor first = holds.cumsum(1).eq(1).logical_and(holds.gt(0));
  const KnownAnswer rule = known_answer(truth, first, mask);
  EXPECT_EQ(rule.kl, INFINITY);
  EXPECT_NEAR(rule.js, 0.2664, 5e-5);
}

TEST(RPrecisionTest, GivesWhatIsComputedByHand) {
  const auto precision = [](const std::vector<double>& truth, const std::vector<double>& scores) {
    const at::Tensor t = matrix(truth, 1);
    return r_precision(t, matrix(scores, 1), everywhere(t));
  };
  EXPECT_EQ(precision({1, 0, 1, 0}, {4, 3, 2, 1}), 0.5);
  EXPECT_EQ(precision({1, 0, 1, 0}, {4, -3, 2, -1}), 1);
  EXPECT_EQ(precision({1, 0, 0, 0}, {1, 2, 3, 4}), 0);
  EXPECT_EQ(precision({1, 1, 1, 1}, {1, 2, 3, 4}), 1);
  EXPECT_EQ(precision({1, 0, 1, 0}, {0, 0, 0, 0}), 0.5) << "chance: 2 of 4";
  // One above all; for the other of two places three are equal, one of them true.
  EXPECT_NEAR(precision({1, 1, 0, 0}, {5, 1, 1, 1}), (1 + 1.0 / 3) / 2, 1e-15);
  EXPECT_NEAR(precision({0, 1, 1, 0}, {5, 1, 1, 1}), (2.0 / 3) / 2, 1e-15);
}

TEST(RPrecisionTest, LeavesOutPaddingAndRowsWithoutATruth) {
  const at::Tensor mask = at::tensor({1, 1, 0, 1, 1, 1, 1, 1, 0}).view({3, 3}).to(at::kBool);
  const at::Tensor truth = matrix({1, 0, 0, 0, 0, 0, 0, 0, 1}, 3);  // the last one's is in padding
  EXPECT_EQ(r_precision(truth, matrix({0.6, 0.2, 9, 1, 2, 3, 1, 1, 1}, 3), mask), 1);
  const at::Tensor two = matrix({1, 0, 0, 0, 1, 0}, 2);
  EXPECT_EQ(r_precision(two, matrix({3, 2, 1, 3, 2, 1}, 2), everywhere(two)), 0.5);
}

TEST(RPrecisionTest, RefusesBadInput) {
  const at::Tensor ones = at::ones({2, 3}), mask = at::ones({2, 3}, at::kBool);
  expect_refused({
      {"NaN", [&] { r_precision(ones, ones * NAN, mask); }, "attribution has to be finite"},
      {"negative truth", [&] { r_precision(-ones, ones, mask); }, "truth has to be >= 0"},
      {"shape",
       [&] {
         r_precision(ones, at::ones({2, 2}), mask);
       },
       "attribution has to be of shape (2, 3), but got (2, 2)"},
      {"no truth", [&] { r_precision(ones * 0, ones, mask); }, "truth has to be positive"},
  });
}

TEST(KnownAnswerTest, RefusesBadInput) {
  const at::Tensor ones = at::ones({2, 3}), mask = at::ones({2, 3}, at::kBool);
  const auto with = [&](double value) {
    at::Tensor changed = ones.clone();
    changed[1][2] = value;
    return changed;
  };
  expect_refused({
      {"negative", [&] { known_answer(ones, with(-1), mask); },
       "attribution has to be >= 0, but got -1"},
      {"negative truth", [&] { known_answer(with(-0.5), ones, mask); },
       "truth has to be >= 0, but got -0.5"},
      {"NaN", [&] { known_answer(ones, with(NAN), mask); }, "attribution has to be finite"},
      {"infinite", [&] { known_answer(ones, with(INFINITY), mask); }, "attribution has to be"},
      {"NaN truth", [&] { known_answer(with(NAN), ones, mask); }, "truth has to be finite"},
      {"shape",
       [&] {
         known_answer(ones, at::ones({2, 2}), mask);
       },
       "attribution has to be of shape (2, 3), but got (2, 2)"},
      {"truth's shape", [&] { known_answer(at::ones({2}), ones, mask); }, "truth has to be of"},
      {"no truth",
       [&] {
         known_answer(at::zeros({2, 3}), ones, mask);
       },
       "truth has to be positive somewhere"},
      {"a truth in padding alone", [&] { known_answer(ones, ones, mask.logical_not()); },
       "truth has to be positive somewhere"},
  });
}

TEST(KnownAnswerTest, ReadsAnAttributionSiteBySiteWithoutSigns) {
  const at::Tensor truth = matrix({1, 1, 0, 0}, 1);
  const at::Tensor right = matrix({-2, 2, 0, 0}, 1), half = matrix({0, 1, -3, 0}, 1);
  Attribution attribution{{"below", "above"}, at::stack({half, right}, 2), {}, everywhere(truth)};
  const auto answers = site_answers(truth, attribution);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].site, "below");
  EXPECT_EQ(answers[0].answer.kl, INFINITY);
  EXPECT_EQ(answers[0].precision, 0.5);
  EXPECT_EQ(answers[1].site, "above");
  EXPECT_NEAR(answers[1].answer.js, 0, 1e-15);
  EXPECT_EQ(answers[1].precision, 1);
}

}  // namespace
}  // namespace diffmask
