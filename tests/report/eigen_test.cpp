#include "diffmask/report/eigen.hpp"

#include <gtest/gtest.h>

#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

TEST(EigenTest, ViewsTheScoresOfAnExample) {
  Attribution attribution{.sites = {"a", "b"},
                          .scores = at::rand({3, 4, 2}, make_generator(1)),
                          .keep = {},
                          .mask = {}};
  for (int64_t example = 0; example < 3; ++example) {
    const ScoreView scores = view(attribution, example);
    ASSERT_EQ(scores.rows(), 4);
    ASSERT_EQ(scores.cols(), 2);
    for (int64_t p = 0; p < 4; ++p) {
      for (int64_t d = 0; d < 2; ++d) {
        EXPECT_EQ(scores(p, d), attribution.scores[example][p][d].item<float>());
      }
    }
  }
  attribution.scores[1][3][0] = 7;
  EXPECT_EQ(view(attribution, 1)(3, 0), 7);
  EXPECT_EQ(view(attribution, 1).data(), attribution.scores[1].data_ptr<float>()) << "a copy";
}

TEST(EigenTest, RefusesBadInput) {
  const at::Tensor scores = at::rand({3, 4, 2}, make_generator(1));
  const auto of = [](const at::Tensor& scores, int64_t example) {
    return [=] { view({{"a", "b"}, scores, {}, {}}, example); };
  };
  const std::string rule = "scores has to be contiguous floats on the CPU";
  expect_refused({
      {"example 3 of 3", of(scores, 3), "example has to be in 0..2, but got 3"},
      {"example -1", of(scores, -1), "example has to be in 0..2, but got -1"},
      {"double", of(scores.to(at::kDouble), 0), rule},
      {"half", of(scores.to(at::kHalf), 0), rule},
      {"transposed", of(scores.transpose(1, 2), 0), rule},
      {"part of a larger tensor", of(scores.narrow(2, 0, 1), 0), rule},
  });
}

}  // namespace
}  // namespace diffmask
