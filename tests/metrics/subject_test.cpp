#include "diffmask/metrics/subject.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/bad_input.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

class SubjectTest : public testing::Test {
 protected:
  const TrainingTask task_ = training_task();
  const Subject subject_{.model = task_.model,
                         .data = task_.validation,
                         .truth = at::rand({20, 5}, make_generator(3)).gt(0.5),
                         .randomised = training_task(99).model};
};

TEST_F(SubjectTest, ItsFirstExamplesKeepWhatIsKnownOfThem) {
  const Subject part = subject_.first(3);
  EXPECT_EQ(part.data->size(), 3);
  EXPECT_TRUE(part.data->batch({2}).inputs[0].equal(task_.validation->batch({2}).inputs[0]));
  EXPECT_TRUE(part.truth.equal(subject_.truth.narrow(0, 0, 3)));
  for (const int64_t all : {0, 20, 21}) EXPECT_EQ(subject_.first(all).data->size(), 20);
  EXPECT_EQ(Subject({.model = task_.model, .data = task_.validation}).first(2).data->size(), 2);
  expect_refused({{"count", [&] { subject_.first(-1); }, "count has to be >= 0, but got -1"}});
}

TEST_F(SubjectTest, IsComparedByItsTruthAndItsRandomisedModel) {
  const auto methods =
      compared_methods({"gradient_x_input"}, {.target = target::predicted_logit}, {});
  const ComparisonOptions options{.sites = {"low"}, .sensitivity_examples = 0};
  ComparisonOptions told = options;
  told.truth = truth_rows(subject_.truth);
  told.randomised = subject_.randomised;
  const Comparison found = compare(subject_, methods, options);
  const Comparison expected = compare(task_.model, *task_.validation, methods, told);
  for (const char* metric : {"D_JS", "randomisation correlation", "sufficiency"}) {
    EXPECT_EQ(found.rows[0].value(metric), expected.rows[0].value(metric)) << metric;
  }
  Subject bare = subject_;
  bare.truth = at::Tensor();
  EXPECT_TRUE(std::isnan(compare(bare, methods, options).rows[0].value("D_JS")));
  bare.truth = subject_.truth.narrow(0, 0, 19);
  expect_refused({{"rows", [&] { compare(bare, methods, options); }, "truth has to be of shape"}});
}

}  // namespace
}  // namespace diffmask
